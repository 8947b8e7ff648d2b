"""Runs that must come out alike however many processes make them, and how alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.components import ClippedSurrogate, SingleExpert, TokenMean

TOLERANCE = 1e-5
"""Sums in another order differ by less; sgd keeps it so, where Adam would make a step of any rounding error."""
FIGURES = 1e-4
"""Likewise: the policy's loss is a difference of large sums, near 0."""


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def rairl(base: Path, pair: Any = None, **settings: Any) -> Callable[[], Any]:
    """A step of warm-up and three rounds: the last is of a second epoch of :func:`data`."""
    players = {"policy_optimizer": sgd, "discriminator_optimizer": sgd, "sft_optimizer": sgd}
    defaults = {"rounds": 3, "warmup": Warmup(2), "max_tokens_per_microbatch": 150, **players}
    return lambda: gates.module(pair or gates.full(base), **{**defaults, **settings})


def sft(base: Path) -> Callable[[], Any]:
    settings = {"sft": SFTInitialisation(2, monitor="log_likelihood"), "max_tokens_per_microbatch": 60}
    return lambda: gates.sft(gates.full(base), sft_optimizer=sgd, **settings)


def grpo(base: Path) -> Callable[[], Any]:
    parts = {"policy_loss": ClippedSurrogate(normalisation=TokenMean()), "expert_in_group": SingleExpert()}
    schedule = {"policy_epochs": 2, "policy_minibatches": 2, "rounds": 3, "max_tokens_per_microbatch": 200}
    return lambda: gates.grpo(gates.full(base), policy_optimizer=sgd, **parts, **schedule)


def data(**settings: Any) -> Callable[[], Any]:
    """Three prompts a round, and two in the last of an epoch."""
    return lambda: gates.data(**{"batch_size": 3, "perturbed_copies": 2, **settings})


def agree(one: dict[str, Any], other: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert gates.largest_difference(one["state"], other["state"]) <= tolerance
    assert len(one["rows"]) == len(other["rows"]) > 0
    for row, same in zip(one["rows"], other["rows"], strict=True):
        assert row.keys() == same.keys()
        for name, value in row.items():
            both_nan = math.isnan(value) and math.isnan(same[name])
            assert both_nan or value == pytest.approx(same[name], rel=FIGURES, abs=FIGURES), name


class EachStep(Checkpoint):
    """Saves after every training step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{pl_module.clock.batches}.ckpt")
