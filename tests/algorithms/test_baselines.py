"""SFT and GRPO through a real ``Trainer.fit``: what they learn from, what they keep, and that they hold no reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gates
import numpy as np
import pytest
import torch
from alike import EachStep
from lightning import Callback
from torch import Tensor

from rairl_lightning.algorithms import SFT
from rairl_lightning.algorithms.phases import SFTInitialisation
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks import (
    AdapterCheckpoint,
    InterruptCheckpoint,
)
from rairl_lightning.callbacks.interrupt import Wish
from rairl_lightning.components import AnswerAndFormat, ClippedSurrogate, KLInReward, Verifier
from rairl_lightning.errors import CheckpointError, ConfigError, ModelError
from rairl_lightning.rollouts import HFSampler
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.types import Rollouts

Make = Callable[..., RoundsModule]
BASELINES = pytest.mark.parametrize("make", [gates.sft, gates.grpo])


def fit(module: RoundsModule, folder: Path, callbacks: Any = (), ckpt_path: Any = None, **settings: Any) -> Any:
    trainer = gates.trainer(folder, callbacks, **{"limit_val_batches": 1.0, **settings})
    trainer.fit(module, datamodule=gates.data(), ckpt_path=ckpt_path)
    return trainer


def seeded(make: Make, pair: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return make(pair, **settings)


# --- SFT ----------------------------------------------------------------------------------------------------------


def test_sft_learns_the_demonstrations(base: Path, tmp_path: Path) -> None:
    module = gates.sft(gates.full(base), sft=SFTInitialisation(4, patience=4))
    trainer = fit(module, tmp_path)
    scores = trainer.logger.having("selection/log_likelihood")
    assert len(scores) == 4 and scores == sorted(scores) and scores[-1] > scores[0] / 2
    assert (module.clock.sft_epoch, module.clock.round, trainer.global_step) == (4, 0, 16)


class Scripted(SFT):
    """Validation says what the test wants it to say."""

    scores: tuple[float, ...] = ()

    def evaluate_batch(self, batch: Any, split: str) -> dict[str, Tensor]:
        self.log("selection/pass@1", self.scores[self.trainer.current_epoch], batch_size=len(batch))
        return {}


@pytest.mark.parametrize("pair", [gates.full, gates.shared])
def test_sft_ends_with_its_best_epoch(base: Path, tmp_path: Path, pair: Any) -> None:
    kept: list[dict[str, Tensor]] = []

    class Epochs(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            kept.append({k: v.clone() for k, v in pl_module.models.adapter_state("policy").items()})

    module = gates.sft(pair(base), sft=SFTInitialisation(9, patience=2))
    module.__class__, module.scores = Scripted, (0.1, 0.9, 0.9, 0.3, 0.95)
    fit(module, tmp_path, [Epochs(), AdapterCheckpoint()])
    policy = module.models.adapter_state("policy")
    assert len(kept) == 4, "two epochs without a better score end the run; a tie is not better"
    assert gates.largest_difference(policy, kept[1]) == 0
    assert gates.largest_difference(policy, kept[3]) > 0, "negative control: the last epoch is another"
    exported = pair(base).build(with_discriminator=False)
    exported.load_adapters(tmp_path / "adapters")
    assert gates.largest_difference(exported.adapter_state("policy"), policy) == 0, "the best epoch is exported"


def test_sft_without_an_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sft\.epochs >= 1"):
        gates.sft(None, sft=SFTInitialisation(0))


# --- GRPO's update by hand ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remembers(HFSampler):
    drawn: list[Rollouts] = field(default_factory=list)

    def sample(self, *args: Any, **kwargs: Any) -> Rollouts:
        self.drawn.append(super().sample(*args, **kwargs))
        return self.drawn[-1]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5)


def by_hand(base: Path, rollouts: Rollouts, rewards_N: np.ndarray) -> dict[str, Tensor]:
    """``θ + lr · mean_n A_n mean_t ∇ log π``: the ratio is 1 on-policy, so nothing is clipped; float64 advantages."""
    groups = rewards_N.reshape(-1, rollouts.group_size).astype(np.float64)
    advantages_N = ((groups - groups.mean(1, keepdims=True)) / (groups.std(1, keepdims=True) + 1e-4)).ravel()
    pair = gates.full(base).build()
    tokens = rollouts.tokens
    logits = pair.policy.causal_lm(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask.long(), position_ids=tokens.position_ids
    ).logits.log_softmax(-1)
    chosen = logits[:, :-1].gather(2, tokens.input_ids[:, 1:, None]).squeeze(2)
    mask = tokens.completion_mask[:, 1:]
    means_N = (chosen * mask).sum(1) / mask.sum(1)
    (torch.tensor(advantages_N) * means_N.double()).mean().neg().backward()
    named = pair.named_trainable_parameters("policy")
    with torch.no_grad():
        return {f"policy.{name}": p - 0.5 * p.grad for name, p in named.items()}


def test_the_first_update_is_the_one_worked_by_hand(base: Path, tmp_path: Path) -> None:
    sampler = Remembers(20)
    loss = ClippedSurrogate(kl_coef=0.0)
    settings = {"sampler": sampler, "policy_loss": loss, "policy_optimizer": sgd, "gradient_clip": 1e9, "rounds": 1}
    module = gates.grpo(gates.full(base), **settings)
    trainer = fit(module, tmp_path, limit_val_batches=0)
    (rollouts,) = sampler.drawn
    right = np.array([gates.LEFT in (extract_answer(text) or "") for text in rollouts.texts])
    formed = np.array([text.count("think>") == text.count("answer>") == 2 for text in rollouts.texts])
    rewards_N = right + 0.1 * formed
    assert 0 < right.sum() < len(right), "there is something to prefer"
    after = {name: t for name, t in gates.weights(module).items() if name.startswith("policy.")}
    assert gates.largest_difference(after, by_hand(base, rollouts, rewards_N)) < 1e-5
    assert gates.largest_difference(after, by_hand(base, rollouts, 1 - rewards_N)) > 1e-3, "negative control"
    assert trainer.logger.having("reward/mean") == pytest.approx([rewards_N.mean()], abs=1e-6)
    assert trainer.logger.having("policy/ratio") == pytest.approx([1.0], abs=1e-5)


def test_grpo_follows_its_verifier(base: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Contrary(Verifier):
        def __call__(self, texts: Any, demonstrations: Any) -> Tensor:
            return torch.tensor([float(extract_answer(text) == gates.RIGHT) for text in texts])

    shares = []
    for verifier in (AnswerAndFormat(), Contrary()):
        optimizer = gates.optimizer(3e-3)
        module = seeded(gates.grpo, gates.full(base), verifier=verifier, rounds=12, policy_optimizer=optimizer)
        trainer = fit(module, tmp_path, limit_val_batches=0)
        shares.append(float(np.mean(trainer.logger.having("rollouts/agreement")[-4:])))
    assert shares[0] > 0.8 and shares[1] < 0.2, "it learns what is paid, and nothing else"


def test_schedules_and_penalties_are_those_of_rairl(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kl_coef: 0"):
        gates.grpo(None, reward_penalty=KLInReward())
    with pytest.raises(ConfigError, match="group_size"):
        gates.grpo(None, group_size=0)
    penalised = gates.grpo(gates.full(base), reward_penalty=KLInReward(), policy_loss=ClippedSurrogate(kl_coef=0.0))
    sft = SFTInitialisation(1, monitor="log_likelihood")
    penalised.sft, penalised.clock.phase = sft, gates.sft(None, sft=sft).clock.phase
    rows = fit(penalised, tmp_path).logger.rows
    assert penalised.models.reference.anchored and penalised.clock.round == 2
    assert [row["round"] for row in rows if "reward/penalty" in row] == [1, 2]


# --- No discriminator ---------------------------------------------------------------------------------------------


@BASELINES
@pytest.mark.parametrize("pair", [gates.full, gates.shared, lambda base: gates.shared(base, "nf4")])
def test_a_baseline_loads_no_discriminator(base: Path, tmp_path: Path, make: Make, pair: Any) -> None:
    module = make(pair(base))
    trainer = fit(module, tmp_path, [AdapterCheckpoint()])
    assert module.models.players == ("policy",)
    assert not any("discriminator" in name or "head." in name for name, _ in module.named_parameters())
    with pytest.raises(ModelError, match="no discriminator"):
        _ = module.models.discriminator
    names = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in names} <= {"policy", "reference"}
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["policy"]
    assert trainer.datamodule.buffer.state_dict() == {"rounds": []}


def test_a_checkpoint_of_another_algorithm_is_refused(base: Path, tmp_path: Path) -> None:
    rairl = gates.module(gates.full(base), rounds=1)
    fit(rairl, tmp_path, [AdapterCheckpoint()], limit_val_batches=0)
    with pytest.raises(CheckpointError, match="does not have"):
        gates.trainer(tmp_path).test(
            gates.grpo(gates.full(base)), datamodule=gates.data(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt"
        )


# --- Kill and resume ----------------------------------------------------------------------------------------------


def everything(trainer: Any) -> dict[str, Tensor]:
    out = gates.weights(trainer.lightning_module)
    for number, optimizer in enumerate(trainer.optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            out |= {f"{number}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return out


@pytest.mark.parametrize(
    ("make", "settings", "stops"),
    [
        (gates.sft, {"sft": SFTInitialisation(2, monitor="log_likelihood")}, (2, 5, 7)),  # four steps an epoch
        (gates.grpo, {"rounds": 6}, (2, 4, 5)),
        (gates.grpo, {"rounds": 3, "sft": SFTInitialisation(1, monitor="log_likelihood")}, (2, 5, 6)),
    ],
    ids=["sft", "grpo", "grpo-after-sft"],
)
def test_resuming_equals_no_stop(
    base: Path, tmp_path: Path, make: Make, settings: dict[str, Any], stops: tuple[int, ...]
) -> None:
    spec = gates.shared(base, dropout=0.1)
    straight = everything(fit(seeded(make, spec, **settings), tmp_path, [EachStep(tmp_path)]))
    for stop in stops:
        torch.manual_seed(stop)
        resumed = fit(make(spec, **settings), tmp_path, ckpt_path=tmp_path / f"{stop}.ckpt")
        assert gates.largest_difference(straight, everything(resumed)) == 0, f"stopped after step {stop}"


def test_a_run_killed_in_an_sft_epoch_goes_on_from_its_start(base: Path, tmp_path: Path) -> None:
    class Killed(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if pl_module.clock.batches == 7:  # of four in an epoch
                raise MemoryError

    settings = {"sft": SFTInitialisation(3, monitor="log_likelihood")}
    straight = everything(fit(seeded(gates.sft, gates.full(base), **settings), tmp_path))
    with pytest.raises(MemoryError):
        fit(seeded(gates.sft, gates.full(base), **settings), tmp_path, [AdapterCheckpoint(), Killed()])
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["rairl"]["clock"]["batches"] == 5
    torch.manual_seed(1)
    resumed = everything(fit(gates.sft(gates.full(base), **settings), tmp_path, ckpt_path=last))
    assert gates.largest_difference(straight, resumed) == 0


@BASELINES
def test_an_interrupt_leaves_a_checkpoint(base: Path, tmp_path: Path, make: Make) -> None:
    class CtrlC(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            interrupt._wish = Wish(Wish.STOP * (pl_module.clock.batches == 1))

    straight = everything(fit(seeded(make, gates.full(base)), tmp_path))
    interrupt = InterruptCheckpoint()
    with pytest.raises(SystemExit):
        fit(seeded(make, gates.full(base)), tmp_path, [interrupt, CtrlC()])
    torch.manual_seed(1)
    resumed = everything(fit(make(gates.full(base)), tmp_path, ckpt_path=tmp_path / "interrupted.ckpt"))
    assert gates.largest_difference(straight, resumed) == 0
