"""A reward of the toy language whose head says something, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gates
import pytest
import torch

from rairl_lightning.components import ClippedLogit, Dense, RewardReader, SingleHead, TokenWeighted
from rairl_lightning.evaluation.trained import TrainedReward


@pytest.fixture(scope="session")
def toy_reward(base: Path) -> TrainedReward:
    models = gates.full(base).build().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in models.discriminator.head.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator))
    return TrainedReward(models, RewardReader(SingleHead(), Dense(), ClippedLogit(), TokenWeighted()), origin="toy")


@pytest.fixture
def flat_reward(toy_reward: TrainedReward) -> TrainedReward:
    """Says the same of everything."""

    class Flat(SingleHead):
        def pay(self, outputs, grid, completion_mask):  # type: ignore[no-untyped-def]
            return torch.zeros(grid.shape)

    return replace(toy_reward, reader=replace(toy_reward.reader, critic=Flat()))


@pytest.fixture
def broken_reward(toy_reward: TrainedReward) -> TrainedReward:
    """Says NaN at the last token of everything."""

    class Broken(SingleHead):
        def pay(self, outputs, grid, completion_mask):  # type: ignore[no-untyped-def]
            last = completion_mask & (completion_mask.long().cumsum(1) == completion_mask.sum(1, keepdim=True))
            return super().pay(outputs, grid, completion_mask).masked_fill(last, torch.nan)

    return replace(toy_reward, reader=replace(toy_reward.reader, critic=Broken()))
