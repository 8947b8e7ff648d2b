"""SFT, warm-up, rounds: what ends each, and what moves in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from gates import fit
from lightning import Callback
from torch import Tensor

from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.components import (
    CosineWithWarmup,
)
from rairl_lightning.errors import ConfigError, TrainingError
from rairl_lightning.module import RAIRL


class Diary(Callback):
    """Phase, round and weights after each training step."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.rounds: list[int] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: RAIRL, batch: Any, batch_idx: int) -> None:
        self.phases.append(pl_module.clock.phase)

    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rounds.append(pl_module.clock.round)
        self.weights.append(gates.weights(pl_module))


def test_phases_follow_each_other_and_the_last_round_ends_the_run(base: Path, tmp_path: Path) -> None:
    diary = Diary()
    module = gates.module(gates.full(base), sft=SFTInitialisation(1, monitor="log_likelihood"), rounds=3)
    trainer = fit(module, tmp_path, [diary], limit_val_batches=1.0)
    assert diary.phases == [Phase.SFT] * 4 + [Phase.WARMUP] * 2 + [Phase.ADVERSARIAL] * 3
    assert diary.rounds == [0] * 6 + [1, 2, 3]
    assert (module.clock.discriminator_updates, module.clock.policy_updates) == (4 + 3 * 2, 3)
    assert trainer.global_step == 4 + 3, "only the policy's steps count: SFT and adversarial"
    frozen = [name for name in diary.weights[0] if name.startswith("policy.")]
    assert all(torch.equal(diary.weights[3][name], diary.weights[5][name]) for name in frozen), "warm-up moved it"


def test_warm_up_ends_once_the_held_out_auroc_is_reached(base: Path, tmp_path: Path) -> None:
    class Oracle(Callback):
        measures_heldout_auroc = True

        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            pl_module.clock.heldout_auroc = 0.6 + 0.1 * pl_module.clock.batches  # 0.7, 0.8, 0.9, …

    diary = Diary()
    module = gates.module(gates.full(base), warmup=Warmup(100, until_auroc=0.8), rounds=1)
    fit(module, tmp_path, [diary, Oracle()])
    assert diary.phases == [Phase.WARMUP] * 3 + [Phase.ADVERSARIAL]


def test_the_policy_does_not_move_before_the_auroc_is_reached(base: Path, tmp_path: Path) -> None:
    class Blind(Callback):
        measures_heldout_auroc = True

        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            pl_module.clock.heldout_auroc = 0.55

    module = gates.module(gates.full(base), warmup=Warmup(4, until_auroc=0.8), rounds=1)
    with pytest.raises(TrainingError, match="cannot tell held-out traces apart"):
        fit(module, tmp_path, [Blind()])
    assert module.clock.policy_updates == 0


@pytest.mark.parametrize(("warmup", "updates"), [(0, 0), (4, 4)])
def test_a_run_without_rounds_moves_the_policy_by_sft_alone(
    base: Path, tmp_path: Path, warmup: int, updates: int
) -> None:
    sft = SFTInitialisation(1, monitor="log_likelihood")
    module = gates.module(gates.full(base), sft=sft, rounds=0, warmup=Warmup(warmup))
    fit(module, tmp_path, limit_val_batches=1.0)
    assert (module.clock.policy_updates, module.clock.discriminator_updates) == (0, updates)
    assert module.clock.sft_epoch == 1


class Scripted(RAIRL):
    """Validation says what the test wants it to say."""

    scores: tuple[float, ...] = ()

    def evaluate_batch(self, batch: Any, split: str) -> dict[str, Tensor]:
        self.log("selection/pass@1", self.scores[self.trainer.current_epoch], batch_size=len(batch))
        return {}


class EpochWeights(Callback):
    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def on_validation_end(self, trainer: Any, pl_module: RAIRL) -> None:
        if pl_module.clock.phase is Phase.SFT:
            self.kept.append({k: v.clone() for k, v in pl_module.models.adapter_state("policy").items()})


@pytest.mark.parametrize("spec", [gates.full, gates.shared])
def test_sft_keeps_its_best_epoch_as_policy_and_as_reference(base: Path, tmp_path: Path, spec: Any) -> None:
    module = gates.module(spec(base), sft=SFTInitialisation(6, patience=2), warmup=Warmup(100), rounds=1)
    module.__class__, module.scores = Scripted, (0.1, 0.9, 0.9, 0.3, 0.95, 0.99)
    epochs = EpochWeights()

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            trainer.should_stop = pl_module.clock.phase is Phase.WARMUP

    fit(module, tmp_path, [epochs, Stop()], limit_val_batches=1.0)
    assert len(epochs.kept) == 4, "two epochs without a better score end the phase; a tie is not better"
    policy, reference = (module.models.adapter_state(role) for role in ("policy", "reference"))
    assert gates.largest_difference(policy, epochs.kept[1]) == 0
    assert gates.largest_difference(reference, epochs.kept[1]) == 0
    assert gates.largest_difference(policy, epochs.kept[2]) > 0, "negative control: epochs differ"


def test_sft_refuses_to_choose_without_a_validation(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check_val_every_n_epoch"):
        fit(gates.module(gates.full(base), sft=SFTInitialisation(1)), tmp_path)


def test_sft_schedule_spans_its_epochs(base: Path, tmp_path: Path) -> None:
    sft = SFTInitialisation(2, monitor="log_likelihood")
    module = gates.module(gates.full(base), sft=sft, sft_schedule=CosineWithWarmup(0.25, 0.1), rounds=0)
    trainer = fit(module, tmp_path, limit_val_batches=1.0)
    rates = trainer.logger.having("sft/learning_rate")
    assert rates[:2] == pytest.approx([5e-4, 1e-3]) and len(rates) == 8
    assert rates == [pytest.approx(1e-3 * CosineWithWarmup(0.25, 0.1).factor(update, 8)) for update in range(8)]
