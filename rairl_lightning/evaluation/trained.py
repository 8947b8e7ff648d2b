"""A trained reward, away from its training: what `score`, `rerank`, `localise` and `inspect` read traces with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.components.reader import RewardReader
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.types import TokenBatch


@dataclass(frozen=True)
class Scores:
    """What a reward says of N traces.

    Attributes:
        pay_NT: ``[N, T]`` what the critic would pay, neither tempered nor clipped; meaningful on the grid.
        rewards_NT: ``[N, T]`` back-filled reward of every completion token, 0 elsewhere.
        grid_NT: ``[N, T]`` bool, where the reward is read.
        traces_N: ``[N]`` pooled reward.
    """

    pay_NT: Tensor
    rewards_NT: Tensor
    grid_NT: Tensor
    traces_N: Tensor


@dataclass(frozen=True)
class TrainedReward:
    """Models in evaluation mode, and how the discriminator is read.

    Attributes:
        models: policy, reference and discriminator.
        reader: critic, granularity, reward and pooling.
        max_tokens: padded tokens in a model at once.
        origin: where it was read from, for reports.
    """

    models: ModelPair
    reader: RewardReader
    max_tokens: int = 16384
    origin: str = ""

    @property
    def codec(self) -> TraceCodec:
        """The tokenizer side."""
        return self.models.codec

    @torch.no_grad()
    def score(self, tokens: TokenBatch) -> Scores:
        """Read N traces; the result of a trace does not depend on the others."""
        pay_NT = self.reader.pay(self.models.discriminator.score(tokens, self.max_tokens), tokens)
        rewards_NT = self.reader.rewards(pay_NT, tokens)
        return Scores(pay_NT, rewards_NT, self.reader.granularity(tokens), self.reader.pooled(rewards_NT, tokens))
