"""What must not change a fit: a part that reduces to another one, and how a batch is split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from gates import fit, started
from torch import Tensor

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.components import (
    ApproximateR1,
    Critic,
    MeanLogprob,
    NoLogprob,
    Pairwise,
    R1Penalty,
    SingleHead,
    TruncatedImportance,
    TwoHead,
    UnitGradient,
)
from rairl_lightning.models import ExpectationHead, HeadSpec, TwoHeads

SAME = 1e-5

spec = partial(gates.full, attention="eager")  # penalties differentiate twice


# --- Reductions ---------------------------------------------------------------------------------------------------


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Adam would blow rounding of a vanishing gradient up to a whole step."""
    return torch.optim.SGD(parameters, lr=0.1)


@dataclass(frozen=True)
class FlatHead(HeadSpec):
    """A potential that is 0 and stays so."""

    def build(self, hidden_size: int) -> torch.nn.Module:
        class Flat(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = torch.nn.Parameter(torch.zeros(()))

            def forward(self, inputs: Any) -> Tensor:
                return 0 * self.scale * inputs.hidden_NTH[..., 0]

        return Flat()


def trained(pair: Any, folder: Path, callbacks: Any = (), **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)  # heads start at random
    module = gates.module(pair, **{"rounds": 2, "warmup": Warmup(2), **settings})
    fit(module, folder, callbacks)
    return gates.weights(module)


def test_a_critic_whose_potential_is_flat_is_the_single_head(base: Path, tmp_path: Path) -> None:
    sgds = {f"{player}_optimizer": sgd for player in ("policy", "discriminator")}

    def two(critic: Critic) -> dict[str, Tensor]:
        weights = trained(spec(base, TwoHeads(ExpectationHead(8), FlatHead())), tmp_path, critic=critic, **sgds)
        return {name.replace("head.reward.", "head."): t for name, t in weights.items() if "potential" not in name}

    one = trained(spec(base), tmp_path, **sgds)
    assert gates.largest_difference(one, two(TwoHead(logprob=NoLogprob()))) < SAME
    assert gates.largest_difference(one, two(TwoHead())) > SAME, "negative control: the log-probability counts"


# --- Splits -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormalisesEachMicroBatch(ApproximateR1):
    """Wrong on purpose: weighs within a micro-batch."""

    def __call__(self, logits_of: Any, inputs: Any, weights_N: Tensor) -> Tensor:
        return super().__call__(logits_of, inputs, weights_N / weights_N.sum())


@dataclass(frozen=True)
class WeighsEachMicroBatch(Pairwise):
    """Wrong on purpose: averages within a micro-batch."""

    def __call__(self, logits: Tensor, labels: Tensor, grid: Tensor, weights: Tensor, rivals: Any = None) -> Tensor:
        return super().__call__(logits, labels, grid, self.trace_weights(labels, grid.sum(dim=1), rivals), rivals)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"discriminator_loss": Pairwise()}, True),
        ({"discriminator_loss": WeighsEachMicroBatch()}, False),
        ({"discriminator_loss": Pairwise(), "discriminator_batch": 6}, True),
        ({"discriminator_penalty": UnitGradient(0.1)}, True),
        ({"discriminator_penalty": R1Penalty(10.0)}, True),
        ({"discriminator_penalty": ApproximateR1(10.0)}, True),
        ({"discriminator_penalty": NormalisesEachMicroBatch(10.0)}, False),
        ({"critic": SingleHead(MeanLogprob()), "sampler_correction": TruncatedImportance()}, True),
    ],
)
def test_the_micro_batch_split_changes_nothing(
    base: Path, tmp_path: Path, settings: dict[str, Any], right: bool
) -> None:
    optimizers = {f"{player}_optimizer": sgd for player in ("policy", "discriminator")}
    settings = {"rounds": 1, "gradient_clip": 100.0, **optimizers, **settings}
    logs = [[], []]
    runs = []
    for log, limit in zip(logs, (16384, 60), strict=True):
        torch.manual_seed(0)
        module = gates.module(spec(base), **{"warmup": Warmup(2), "max_tokens_per_microbatch": limit, **settings})
        log.extend(fit(module, tmp_path).logger.rows)
        runs.append(gates.weights(module))
    assert (gates.largest_difference(*runs) < SAME) == right
    if right:
        for name in ("accuracy_policy", "logit_expert", "auroc", "auroc_within_prompt"):
            whole, parts = ([row[f"discriminator/{name}"] for row in log] for log in logs)
            assert whole == pytest.approx(parts, abs=1e-4, nan_ok=True), name
    assert gates.largest_difference(runs[0], started(gates.module(spec(base)))) > 100 * SAME, "nothing moved"
