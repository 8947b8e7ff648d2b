"""What Health does about a collapse: where it goes back to, what it changes for good, and when it gives up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gates
import jsonargparse
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.callbacks import (
    AdapterCheckpoint,
    DiscriminatorProbe,
    Health,
    InterruptCheckpoint,
    Reranking,
    RolloutRecorder,
    TraceLogger,
)
from rairl_lightning.callbacks.health import FormatRate, HeldoutAuroc, History, Level, Outcome, Sign
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.components.rewards import ClippedLogit
from rairl_lightning.components.schedules import Constant, CosineWithWarmup
from rairl_lightning.errors import CheckpointError, ConfigError, TrainingError
from rairl_lightning.module import RAIRL

RATE, FACTOR = 1e-3, 0.3
expected_collapse = pytest.mark.filterwarnings("ignore:Health, ")


@dataclass(frozen=True)
class At(Sign):
    """Looks as it is told to at the end of given rounds."""

    rounds: tuple[int, ...] = ()
    warns: tuple[int, ...] = ()
    metric: str = "round"
    warning: float = 0.0
    collapse: float = 0.0
    patience: int = 1

    def level(self, value: float, history: History) -> Level:
        return Level.COLLAPSE if value in self.rounds else Level.WARNING if value in self.warns else Level.HEALTHY

    def beyond(self, limit: float, value: float, history: History) -> bool:
        raise NotImplementedError

    def expected(self, history: History) -> str:
        return "another round"


def state_of(module: RAIRL, trainer: Any) -> dict[str, Tensor]:
    """Weights, moments of both players, and the replay buffer; copies."""
    out = gates.weights(module)
    for name in ("policy", "discriminator"):
        for index, state in module.players[name].optimizer.state_dict()["state"].items():
            out |= {f"{name}.{index}.{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    for number, kept in enumerate(trainer.datamodule.buffer.state_dict()["rounds"]):
        out |= {f"buffer.{number}.{key}": value.float() for key, value in kept.items()}
    return out


class AfterHealth(Checkpoint):
    """Notes the state that a checkpoint of each round would hold, and may save it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        self.states[pl_module.clock.round] = state_of(pl_module, trainer)
        if self.folder is not None:
            trainer.save_checkpoint(self.folder / f"{pl_module.clock.round}.ckpt")


@dataclass
class Run:
    module: RAIRL
    trainer: Any
    health: Health
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)


def run(
    base: Path,
    folder: Path,
    health: Health,
    rounds: int = 10,
    saved: bool = False,
    ckpt_path: Path | None = None,
    more: Sequence[Any] = (),
    pair: Any = gates.full,
    **settings: Any,
) -> Run:
    torch.manual_seed(0)
    after = AfterHealth(folder if saved else None)
    module = gates.module(pair(base), **{"rounds": rounds, "policy_optimizer": gates.optimizer(RATE), **settings})
    trainer = gates.trainer(folder, [health, after, *more])
    trainer.fit(module, datamodule=gates.data(replay_rounds=50), ckpt_path=ckpt_path)
    return Run(module, trainer, health, after.states)


def scripted(*rounds: int, warns: tuple[int, ...] = (), **settings: Any) -> Health:
    """A snapshot is due every third round and healthy two rounds later."""
    defaults = {"every_n_rounds": 3, "confirm": 2, "policy_rate_factor": FACTOR}
    return Health([At(rounds, warns)], **{**defaults, **settings})


# --- Restoring ----------------------------------------------------------------------------------------------------


@expected_collapse
@pytest.mark.parametrize("pair", [gates.full, gates.shared])
def test_everything_is_put_back_bit_for_bit_and_as_often_as_needed(base: Path, tmp_path: Path, pair: Any) -> None:
    done = run(base, tmp_path, scripted(6, 8), pair=pair)
    third, states = done.states[3], done.states
    assert [collapse.restored for collapse in done.health.collapses] == [3, 3]
    for round_ in (6, 8):  # the second time from the same snapshot, which the steps between did not touch
        assert gates.largest_difference(states[round_], third) == 0
    assert any(name.startswith("discriminator.0.exp_avg") for name in third)
    assert {name.split(".")[0] for name in third} >= {"policy", "discriminator", "buffer"}
    for round_ in (4, 5, 7, 9):
        moved = {name: states[round_][name] for name in third}  # the buffer has grown besides
        assert gates.largest_difference(moved, third) > 0, "control: it moves"


@expected_collapse
def test_before_any_snapshot_is_confirmed_it_goes_back_to_the_start(base: Path, tmp_path: Path) -> None:
    done = run(base, tmp_path, scripted(4), rounds=4)
    assert done.health.collapses[0].restored == 0
    start = done.states[0]
    own = {name: tensor for name, tensor in done.states[4].items() if not name.startswith("buffer")}
    assert gates.largest_difference(own, {name: start[name] for name in own}) == 0
    assert not any(name.startswith("policy.0") for name in start), "no moments yet, and so none afterwards"


@expected_collapse
@pytest.mark.parametrize(("suspicious", "restored"), [((), 6), ((8,), 3), ((6, 7, 8), 3)])
def test_a_snapshot_is_healthy_only_if_the_rounds_after_it_were(
    base: Path, tmp_path: Path, suspicious: tuple[int, ...], restored: int
) -> None:
    done = run(base, tmp_path, scripted(9, warns=suspicious), rounds=9)
    assert done.health.collapses[0].restored == restored


@expected_collapse
def test_the_clock_goes_on_and_the_auroc_goes_back(base: Path, tmp_path: Path) -> None:
    class Measured(RolloutRecorder):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            pl_module.clock.heldout_auroc = float(pl_module.clock.round)

    done = run(base, tmp_path, scripted(6), rounds=6, more=[Measured()])
    assert done.module.clock.heldout_auroc == 3.0 and done.module.clock.round == 6
    assert done.module.clock.policy_updates == done.trainer.global_step == 6


# --- The learning rate --------------------------------------------------------------------------------------------


@pytest.mark.slow
@expected_collapse
@pytest.mark.parametrize("schedule", [Constant(), CosineWithWarmup(0.2)])
def test_the_policy_learns_more_slowly_for_good(base: Path, tmp_path: Path, schedule: Any) -> None:
    factors = [FACTOR ** ((index >= 4) + (index >= 6)) for index in range(10)]
    wanted = [RATE * factor * schedule.factor(index, 10) for index, factor in enumerate(factors)]
    settings = {"policy_schedule": schedule, "discriminator_schedule": schedule}
    done = run(base, tmp_path, scripted(4, 6), saved=True, **settings)
    assert done.trainer.logger.having("policy/learning_rate") == pytest.approx(wanted)
    resumed = run(base, tmp_path, scripted(4, 6), ckpt_path=tmp_path / "7.ckpt", **settings)
    assert resumed.trainer.logger.having("policy/learning_rate") == pytest.approx(wanted[7:])
    discriminator = done.trainer.logger.having("discriminator/learning_rate")[-2]
    other = run(base, tmp_path, scripted(), **settings).trainer.logger.having("discriminator/learning_rate")[-2]
    assert discriminator == other, "its schedule follows the clock, and its rate is its own"
    assert done.health.verdict is not None and done.health.verdict.policy_rate_factor == pytest.approx(FACTOR**2)


# --- Giving up ----------------------------------------------------------------------------------------------------


@expected_collapse
def test_after_enough_restorations_it_stops_with_the_healthy_pair(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(base, tmp_path, scripted(6, 8, max_restorations=1), more=[AdapterCheckpoint()])
    verdict = done.health.verdict
    assert verdict is not None and verdict.outcome is Outcome.COLLAPSED and done.module.clock.round == 8
    assert "STOPPED after 8 rounds" in str(verdict) and "those of round 3" in str(verdict)
    last = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)["state_dict"]
    assert gates.largest_difference(saved, {name: done.states[3][name] for name in saved}) == 0
    assert done.trainer.logger.having("health/stopped") == [0.0] * 7 + [1.0]
    assert done.trainer.logger.having("health/restorations")[-3:] == [1.0, 1.0, 1.0]

    again = run(base, tmp_path, scripted(6, 8, max_restorations=1), ckpt_path=last)
    assert again.module.clock.round == 8, "a run that was stopped is not continued"
    further = run(base, tmp_path, scripted(6, 8, max_restorations=2), ckpt_path=last)
    assert further.module.clock.round == 10, "unless more is allowed"
    assert further.health.verdict is not None and further.health.verdict.outcome is Outcome.RECOVERED


@expected_collapse
def test_nothing_is_lost_in_the_last_round(base: Path, tmp_path: Path) -> None:
    """Patience cannot be waited for at the end: one reading at the collapse level restores, but only there."""
    health = Health([At((5, 10), patience=3)], every_n_rounds=3, confirm=2)
    done = run(base, tmp_path, health)
    assert [(collapse.round, collapse.restored) for collapse in health.collapses] == [(10, 6)]
    assert gates.largest_difference(done.states[10], done.states[6]) == 0


# --- Doing nothing ------------------------------------------------------------------------------------------------


def test_a_healthy_run_is_the_run_without_it(base: Path, tmp_path: Path) -> None:
    """All default signs; a warning would be an error here."""
    watched = run(base, tmp_path, Health(every_n_rounds=2, confirm=1), saved=True)
    plain = run(base, tmp_path, Health([], every_n_rounds=100))
    assert gates.largest_difference(watched.states[10], plain.states[10]) == 0
    assert watched.health.verdict is not None and watched.health.verdict.outcome is Outcome.HEALTHY
    assert str(watched.health.verdict) == "Health: no collapse in 10 rounds."
    assert watched.health.healthy is not None and watched.health.healthy.round >= 6
    observed = {watch.sign.metric for watch in watched.health.watches if watch.value is not None}
    assert observed == {watch.sign.metric for watch in watched.health.watches} - {"discriminator/heldout_auroc"}
    assert torch.load(tmp_path / "10.ckpt", weights_only=True)["callbacks"]["Health"]["snapshots"]["healthy"]["weights"]


def test_the_warm_up_gives_the_baseline_and_the_readings_are_of_the_round(base: Path, tmp_path: Path) -> None:
    done = run(base, tmp_path, Health([FormatRate()], window=4), rounds=0, warmup=Warmup(8))
    rates = done.trainer.logger.having("rollouts/format_rate")
    assert len(rates) == 4 and done.health.watches[0].history.recent == pytest.approx(rates)


def test_the_sft_initialisation_is_left_alone(base: Path, tmp_path: Path) -> None:
    class NoSFT(Health):
        def _metrics(self, *args: Any) -> dict[str, float]:
            assert self._phase is not Phase.SFT
            return super()._metrics(*args)

    torch.manual_seed(0)
    sft = SFTInitialisation(2, monitor="log_likelihood")
    module, health = gates.module(gates.full(base), sft=sft, rounds=2), NoSFT()
    trainer = gates.trainer(tmp_path, [health], limit_val_batches=1.0)
    trainer.fit(module, datamodule=gates.data())
    assert (
        module.clock.round == 2
        and health.healthy is not None
        and set(health.healthy.moments)
        == {
            "policy",
            "discriminator",
        }
    )


def test_a_warning_comes_before(base: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Health, round 3: At: round is 3, expected another round; .* Try: ") as seen:
        done = run(base, tmp_path, scripted(warns=(3, 4)), rounds=5)
    assert len([one for one in seen if "Health" in str(one.message)]) == 1, "once an episode"
    assert done.trainer.logger.having("health/level") == [0, 0, 1, 1, 0]
    assert done.trainer.logger.having("health/signs") == [0, 0, 1, 1, 0]


# --- Updates that are not finite ----------------------------------------------------------------------------------

ROUND = itertools.count()


@dataclass(frozen=True)
class Poison(ClippedLogit):
    """Not a number in its fifth round."""

    def __call__(self, *args: Any) -> Tensor:
        rewards = super().__call__(*args)
        return rewards * float("nan") if next(ROUND) == 4 else rewards


@expected_collapse
def test_an_update_that_is_not_finite_is_mended(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROUND", itertools.count())
    done = run(base, tmp_path, Health(every_n_rounds=2, confirm=1), rounds=8, reward=Poison())
    assert [collapse.round for collapse in done.health.collapses] == [5]
    assert "SkippedUpdates" in done.health.collapses[0].signs and done.health.collapses[0].restored == 2
    assert done.module.clock.round == 8 and all(t.isfinite().all() for t in done.states[8].values())


class PoisonedHead(Callback):
    """The discriminator's head is no number from the start of the fifth round on."""

    def on_train_batch_start(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        if pl_module.clock.round == 4 and pl_module.clock.phase is Phase.ADVERSARIAL:
            with torch.no_grad():
                for parameter in pl_module.models.discriminator.head.parameters():
                    parameter.fill_(float("nan"))


@expected_collapse
def test_a_discriminator_that_scores_no_numbers_is_mended(base: Path, tmp_path: Path) -> None:
    health = Health(every_n_rounds=2, confirm=1)
    evaluated = [DiscriminatorProbe(1, questions=4, samples=4), Reranking(5, 3, 4), TraceLogger(5, 3)]
    done = run(base, tmp_path, health, rounds=8, more=[PoisonedHead(), *evaluated], warmup=Warmup(0))
    assert [(collapse.round, collapse.restored) for collapse in health.collapses] == [(5, 2)]
    assert "SkippedUpdates" in health.collapses[0].signs and "HeldoutAuroc" not in health.collapses[0].signs
    assert done.module.clock.round == 8 and all(t.isfinite().all() for t in done.states[8].values())
    notes = done.trainer.logger
    assert len(notes.having("discriminator/heldout_auroc")) == 7, "one is not to be had"
    assert all(math.isfinite(area) for area in notes.having("discriminator/heldout_auroc"))
    assert done.module.clock.heldout_auroc == notes.having("discriminator/heldout_auroc")[-1]


@pytest.mark.filterwarnings("ignore:.*was skipped")
def test_without_it_such_a_discriminator_stops_the_run(base: Path, tmp_path: Path) -> None:
    module = gates.module(gates.full(base), rounds=8, warmup=Warmup(0))
    with pytest.raises(TrainingError, match="discriminator are not finite; the last 4 were not made"):
        gates.trainer(tmp_path, [PoisonedHead()]).fit(module, datamodule=gates.data())
    assert module.skipped_updates >= 4


def test_without_it_one_such_update_is_named_and_the_run_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROUND", itertools.count())
    module = gates.module(gates.full(base), rounds=6, reward=Poison())
    told = r"adversarial, step 7: an update of the policy was skipped \(not tried\); the reward is not finite in "
    with pytest.warns(UserWarning, match=told + '8 of 8 traces: trace 0, nan at its token 0: "<think>'):
        gates.trainer(tmp_path).fit(module, datamodule=gates.data())
    assert (module.clock.round, module.clock.policy_updates, module.skipped_updates) == (6, 5, 1)
    assert all(tensor.isfinite().all() for tensor in gates.weights(module).values())


# --- Resuming -----------------------------------------------------------------------------------------------------


@expected_collapse
def test_resuming_after_any_round_equals_no_stop(base: Path, tmp_path: Path) -> None:
    def health(**settings: Any) -> Health:
        return scripted(6, 9, warns=(8,), **settings)

    straight = run(base, tmp_path, health(), saved=True)
    for stop in (2, 4, 5, 6, 8):  # nothing yet; a candidate; confirmed; restored; suspicious
        resumed = run(base, tmp_path, health(), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert gates.largest_difference(straight.states[10], resumed.states[10]) == 0, f"stopped after round {stop}"
        assert resumed.health.verdict == straight.health.verdict
        assert [watch.state_dict() for watch in resumed.health.watches] == [
            watch.state_dict() for watch in straight.health.watches
        ]
    checkpoint = torch.load(tmp_path / "5.ckpt", weights_only=True)
    checkpoint["callbacks"]["Health"]["snapshots"] = {}
    torch.save(checkpoint, tmp_path / "5.ckpt")
    without = run(base, tmp_path, health(), ckpt_path=tmp_path / "5.ckpt")
    names = gates.weights(straight.module)
    ends = [{name: one.states[10][name] for name in names} for one in (straight, without)]
    assert gates.largest_difference(*ends) > 0, "control: they are needed"


@expected_collapse
def test_smaller_checkpoints_resume_from_what_they_hold(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path, scripted(save_snapshots=False), saved=True)
    checkpoint = torch.load(tmp_path / "5.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["Health"]["snapshots"] == {}
    resumed = run(base, tmp_path, scripted(6, save_snapshots=False), ckpt_path=tmp_path / "5.ckpt")
    assert resumed.health.collapses[0].restored == 5


def test_other_signs_do_not_fit_the_checkpoint(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path, scripted(), rounds=1, saved=True)
    with pytest.raises(CheckpointError, match="watched other signs"):
        run(base, tmp_path, Health([FormatRate()]), ckpt_path=tmp_path / "1.ckpt")


@expected_collapse
def test_what_was_measured_of_the_discarded_discriminator_is_read_once(base: Path, tmp_path: Path) -> None:
    """A held figure stays logged after the restoration, and is gone after a resumption: neither is a new reading."""

    class Measured(RolloutRecorder):
        areas: ClassVar = {1: 0.8, 5: 0.2, 9: 0.3}

        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            if pl_module.clock.round in self.areas:
                log_once(trainer, pl_module, {"discriminator/heldout_auroc": self.areas[pl_module.clock.round]})

    def go(ckpt_path: Path | None = None) -> Run:
        health = Health([HeldoutAuroc(patience=1)], every_n_rounds=3, confirm=2, max_restorations=1)
        return run(base, tmp_path, health, saved=ckpt_path is None, ckpt_path=ckpt_path, more=[Measured()])

    straight = go()
    assert [collapse.round for collapse in straight.health.collapses] == [5, 9], "once a measurement"
    for stop in (5, 6):  # with the collapse, and after it
        resumed = go(tmp_path / f"{stop}.ckpt")
        assert resumed.health.verdict == straight.health.verdict
        assert resumed.health.watches[0].state_dict() == straight.health.watches[0].state_dict()
        assert gates.largest_difference(straight.states[9], resumed.states[9]) == 0, f"stopped after round {stop}"


# --- Place and settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_it_stands_behind_what_measures_and_before_what_saves(tmp_path: Path, order: tuple[int, ...]) -> None:
    parts = [Health([]), RolloutRecorder(), AdapterCheckpoint(), InterruptCheckpoint()]
    trainer = gates.trainer(tmp_path, [parts[index] for index in order])
    for callback in list(trainer.callbacks):
        callback.setup(trainer, torch.nn.Module(), "fit")
    kinds = [type(one).__name__ for one in trainer.callbacks]
    assert kinds == ["RolloutRecorder", "RolloutRecorder", "Health", "AdapterCheckpoint", "InterruptCheckpoint"]


@pytest.mark.parametrize(
    "settings",
    [{"window": 0}, {"every_n_rounds": 0}, {"confirm": 0}, {"policy_rate_factor": 0.0}, {"max_restorations": -1}],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Health cannot run"):
        Health(**settings)


def test_signs_are_named_in_yaml() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Health, "health")
    node = {"class_path": "rairl_lightning.callbacks.health.FormatRate", "init_args": {"collapse": 0.3}}
    built = parser.instantiate_classes(parser.parse_object({"health": {"signs": [node], "window": 4}})).health
    assert [watch.sign for watch in built.watches] == [FormatRate(collapse=0.3)]
