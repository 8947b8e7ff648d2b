"""Continuing from a checkpoint is not to have stopped."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from alike import EachStep
from checkpointed import ROUNDS, a_module, run, small
from lightning import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import AdapterCheckpoint, DiscriminatorProbe, InterruptCheckpoint
from rairl_lightning.callbacks.interrupt import Wish
from rairl_lightning.module import RAIRL


@dataclass(frozen=True)
class Straight:
    """How a run that was not stopped ended, and a folder with a checkpoint for each of its steps."""

    end: dict[str, Tensor]
    folder: Path


@pytest.fixture(scope="session")
def straight(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("straight")
    with torch.random.fork_rng(devices=[]):
        end, _ = run(a_module(gates.full(base)), folder, [EachStep(folder)])
    return Straight(end, folder)


@pytest.mark.parametrize("stop", range(2, 8))  # 2 ends the warm-up, 4 the first epoch
def test_resuming_after_any_round_equals_no_stop(base: Path, tmp_path: Path, straight: Straight, stop: int) -> None:
    torch.manual_seed(stop)
    module = small(gates.full(base))
    resumed, trainer = run(module, tmp_path, ckpt_path=straight.folder / f"{stop}.ckpt")
    assert gates.largest_difference(straight.end, resumed) == 0
    assert module.clock.round == trainer.global_step == ROUNDS


def test_resuming_with_adapters_and_dropout_equals_no_stop(base: Path, tmp_path: Path) -> None:
    spec, rounds = gates.shared(base, dropout=0.1), 3
    straight, _ = run(a_module(spec, rounds=rounds), tmp_path, [EachStep(tmp_path)])
    for stop in (3, 4):  # the first round, and the end of an epoch
        torch.manual_seed(stop)
        module = small(spec, rounds=rounds)
        resumed, trainer = run(module, tmp_path, ckpt_path=tmp_path / f"{stop}.ckpt")
        assert gates.largest_difference(straight, resumed) == 0, f"stopped after step {stop}"
        assert module.clock.round == trainer.global_step == rounds


@pytest.mark.parametrize("round_", [1, 2])  # the second ends an epoch
def test_resuming_after_an_interrupt_equals_no_stop(
    base: Path, tmp_path: Path, straight: Straight, round_: int
) -> None:
    class CtrlC(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            interrupt._wish = Wish(Wish.STOP * (pl_module.clock.round == round_ - 1))

    interrupt = InterruptCheckpoint()
    with pytest.raises(SystemExit):
        run(a_module(gates.full(base)), tmp_path, [interrupt, CtrlC()])
    torch.manual_seed(1)
    resumed, _ = run(small(gates.full(base)), tmp_path, ckpt_path=tmp_path / "interrupted.ckpt")
    assert gates.largest_difference(straight.end, resumed) == 0


@pytest.mark.parametrize("forgotten", ["buffer", "position", "rng", "moments"])
def test_forgetting_any_part_would_be_noticed(base: Path, tmp_path: Path, straight: Straight, forgotten: str) -> None:
    checkpoint = torch.load(straight.folder / "5.ckpt", weights_only=True)
    (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    match forgotten:
        case "buffer":
            checkpoint["DemonstrationDataModule"]["buffer"]["rounds"] = []
        case "position":
            loader.update(epoch=0, position=0)
        case "rng":
            checkpoint["rairl"]["clock"]["batches"] = 0
        case "moments":
            for state in checkpoint["optimizer_states"][1]["state"].values():
                state["exp_avg"].zero_()
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    resumed, _ = run(small(gates.full(base)), tmp_path, ckpt_path=tmp_path / "broken.ckpt")
    weights = [{k: v for k, v in one.items() if k.startswith("discriminator.")} for one in (straight.end, resumed)]
    assert gates.largest_difference(*weights) > 0


def test_resuming_within_the_sft_initialisation_equals_no_stop(base: Path, tmp_path: Path) -> None:
    def module() -> RAIRL:
        torch.manual_seed(0)
        sft = SFTInitialisation(3, patience=1, monitor="log_likelihood")
        return small(gates.full(base), sft=sft, rounds=2, warmup=Warmup(1))

    straight, trainer = run(module(), tmp_path, [EachStep(tmp_path)], limit_val_batches=1.0)
    steps = trainer.lightning_module.clock.batches
    for stop in (2, 5, 7, steps - 1):  # not the last of an epoch, which Lightning would not validate again
        resumed, _ = run(module(), tmp_path, ckpt_path=tmp_path / f"{stop}.ckpt", limit_val_batches=1.0)
        assert gates.largest_difference(straight, resumed) == 0, f"stopped after step {stop}"


class Sends(Callback):
    """A signal to the own process, in a training step or in the validation after it."""

    def __init__(self, name: str, step: int, during: str) -> None:
        self.signal, self.step, self.during = signal.Signals[name], step, during

    def send(self, now: bool) -> None:
        if now:
            self.step = -1
            os.kill(os.getpid(), self.signal)

    def on_train_batch_start(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        self.send(self.during == "training" and pl_module.clock.batches == self.step - 1)

    def on_validation_batch_start(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        self.send(self.during == "validation" and pl_module.clock.batches == self.step)


def two_sft_epochs(base: Path) -> RAIRL:
    torch.manual_seed(0)
    sft = SFTInitialisation(2, patience=2, monitor="log_likelihood")
    return small(gates.full(base), sft=sft, rounds=1, warmup=Warmup(1))


@pytest.fixture(scope="session")
def after_two_sft_epochs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The end of a run that was not stopped."""
    with torch.random.fork_rng(devices=[]):
        return run(two_sft_epochs(base), tmp_path_factory.mktemp("sft"), limit_val_batches=1.0)[0]


@pytest.mark.parametrize(
    ("name", "stopped", "during", "epochs"),
    [
        ("SIGINT", SystemExit, "training", (1, 2)),
        ("SIGINT", SystemExit, "validation", (2,)),
        ("SIGTERM", SIGTERMException, "training", (2,)),
        ("SIGTERM", SIGTERMException, "validation", (1, 2)),
    ],
)
def test_a_signal_at_the_end_of_an_sft_epoch_does_not_lose_the_epoch(
    base: Path,
    tmp_path: Path,
    after_two_sft_epochs: dict[str, Tensor],
    name: str,
    stopped: type[BaseException],
    during: str,
    epochs: tuple[int, ...],
) -> None:
    for epoch in epochs:  # of four steps; the second is the last
        sender = Sends(name, 4 * epoch, during)
        with pytest.raises(stopped):
            run(two_sft_epochs(base), tmp_path, [InterruptCheckpoint(), sender], limit_val_batches=1.0)
        path = tmp_path / "interrupted.ckpt"
        clock = torch.load(path, weights_only=True)["rairl"]["clock"]
        assert (clock["batches"], clock["sft_epoch"]) == (4 * epoch + 1, epoch)
        resumed, _ = run(two_sft_epochs(base), tmp_path, ckpt_path=path, limit_val_batches=1.0)
        assert gates.largest_difference(after_two_sft_epochs, resumed) == 0, f"stopped at the end of epoch {epoch}"
        path.unlink()


@pytest.mark.parametrize("hook", ["on_validation_start", "on_train_end"])
def test_a_second_interrupt_in_an_sft_epoch_saves_nothing_and_one_behind_the_last_does(
    base: Path, tmp_path: Path, hook: str
) -> None:
    sent: list[int] = []

    class Sender(Callback):
        def interrupt(self, *_: Any) -> None:
            for number in range(2):
                sent.append(number)
                os.kill(os.getpid(), signal.SIGINT)

    setattr(Sender, hook, Sender.interrupt)
    module = gates.sft(gates.full(base), sft=SFTInitialisation(1, monitor="log_likelihood"))
    with pytest.raises(SystemExit):
        run(module, tmp_path, [Sender(), InterruptCheckpoint()], limit_val_batches=1.0)
    over = hook == "on_train_end"
    assert (tmp_path / "interrupted.ckpt").exists() is over and sent == ([0] if over else [0, 1])


def test_a_resumed_warm_up_ends_when_it_would_have(base: Path, tmp_path: Path) -> None:
    def probes() -> list[DiscriminatorProbe]:
        return [DiscriminatorProbe(every_n_updates=4, questions=4, samples=4)]

    def module() -> RAIRL:
        torch.manual_seed(0)
        optimizer = gates.optimizer(3e-3)
        return gates.module(
            gates.full(base), rounds=1, warmup=Warmup(60, until_auroc=0.9), discriminator_optimizer=optimizer
        )

    straight, trainer = run(module(), tmp_path, [*probes(), EachStep(tmp_path)])
    steps = trainer.lightning_module.clock.batches
    assert 4 < steps < 30, "the AUROC ended it"
    resumed, trainer = run(module(), tmp_path, probes(), ckpt_path=tmp_path / "3.ckpt")
    assert trainer.lightning_module.clock.batches == steps
    assert gates.largest_difference(straight, resumed) == 0


def test_a_finished_run_is_not_continued(base: Path, tmp_path: Path) -> None:
    straight, _ = run(a_module(gates.full(base), rounds=2), tmp_path, [AdapterCheckpoint()])
    last = tmp_path / "checkpoints" / "last.ckpt"
    again, trainer = run(a_module(gates.full(base), rounds=2), tmp_path, ckpt_path=last)
    assert trainer.global_step == 2 and gates.largest_difference(straight, again) == 0
    _, trainer = run(a_module(gates.full(base), rounds=3), tmp_path, ckpt_path=last)
    assert trainer.global_step == 3, "more rounds do continue it"
