"""Two processes give what one gives: weights, moments, replay and every figure that is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import pytest
from alike import TOLERANCE, agree, data, grpo, rairl, sft

from rairl_lightning.algorithms import optimisation
from rairl_lightning.callbacks import DiscriminatorProbe, Health
from rairl_lightning.components import (
    ApproximateR1,
    BatchScaling,
    BinaryCrossEntropy,
    Fixed,
    GroupCentred,
    Pairwise,
    PerPosition,
)
from rairl_lightning.functional import processes
from rairl_lightning.rollouts import stepwise
from rairl_lightning.rollouts.base import uniforms

CASES: dict[str, Any] = {
    "sft": (sft, {"limit_val_batches": 1.0}),
    "grpo": (grpo, {}),
    "bce": (rairl, {"callbacks": lambda: [Health(), DiscriminatorProbe(every_n_updates=2, questions=3, samples=3)]}),
    "drawn": (
        lambda base: rairl(
            base,
            discriminator_batch=9,
            discriminator_loss=BinaryCrossEntropy(reduction=PerPosition()),
            discriminator_penalty=ApproximateR1(),
            advantage=GroupCentred(BatchScaling()),
        ),
        {},
    ),
    "pairwise": (
        lambda base: rairl(
            base, gates.shared(base), discriminator_loss=Pairwise(), discriminator_updates=Fixed(1), group_size=6
        ),
        {},
    ),
}


@pytest.mark.filterwarnings("ignore:Health, ")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_result_of_one(base: Path, tmp_path: Path, runs: Any, case: str) -> None:
    make, settings = CASES[case]
    one = runs.trained(make(base), tmp_path / "alone", data=data(), **settings)
    first, second = runs.on_two(make(base), tmp_path, data=data(), **settings)
    agree(one, first)
    assert gates.largest_difference(first["state"], second["state"]) == 0, "the processes agree bit for bit"


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), Pairwise()])
def test_processes_without_a_prompt_or_a_micro_batch_take_part(
    base: Path, tmp_path: Path, runs: Any, loss: Any
) -> None:
    make = rairl(base, discriminator_loss=loss, discriminator_batch=2, group_size=2, policy_epochs=2, rounds=3)
    one_prompt = data(batch_size=1, perturbed_copies=0, replayed=0)
    one = runs.trained(make, tmp_path / "alone", data=one_prompt)
    first, *_ = runs.on_two(make, tmp_path, data=one_prompt, devices=3)
    agree(one, first)


summed = processes.sum_gradients


def averaged(parameters: Any) -> None:
    """What DDP does, and what a normaliser of each process's own would want."""
    summed(parameters)
    for parameter in parameters:
        parameter.grad /= processes.count()


class WeighsEachMicroBatch(BinaryCrossEntropy):
    """Its normaliser is of what one process sees at a time."""

    def __call__(self, logits_NT: Any, labels_N: Any, grid_NT: Any, weights_N: Any, rivals_N: Any = None) -> Any:
        own_N = self.reduction(labels_N, grid_NT.sum(dim=1))
        return super().__call__(logits_NT, labels_N, grid_NT, own_N, rivals_N)


@pytest.mark.parametrize("wrong", ["averaged gradients", "a loss normalised by parts", "randomness of the rank"])
def test_what_is_not_of_all_processes_would_be_noticed(
    base: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    whole = {"max_tokens_per_microbatch": 10**6}  # in one process, one part
    loss = WeighsEachMicroBatch() if "loss" in wrong else BinaryCrossEntropy()
    make = rairl(base, discriminator_loss=loss, rounds=1, **whole)
    one = runs.trained(make, tmp_path / "alone", data=data())
    if "gradients" in wrong:
        monkeypatch.setattr(optimisation.processes, "sum_gradients", averaged, raising=True)
    if "rank" in wrong:
        monkeypatch.setattr(
            stepwise, "uniforms", lambda source, *shape: uniforms(getattr(source, "generator", source), *shape)
        )
    first, _ = runs.on_two(make, tmp_path, data=data())
    assert gates.largest_difference(one["state"], first["state"]) > 100 * TOLERANCE
