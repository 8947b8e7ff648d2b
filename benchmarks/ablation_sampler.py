"""A sampler that draws from traces that were sampled before, for a policy that stands still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.policy import Policy
from rairl_lightning.rollouts import Sampler
from rairl_lightning.types import Rollouts


@dataclass(frozen=True)
class StoredSampler(Sampler):
    """Draws from traces that were sampled before; as good as sampling while the policy stands still.

    Args:
        stored: several traces of every prompt that will come.
        temperature: they were sampled at.
    """

    stored: Rollouts
    temperature: float = 1.0

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """``group_size`` of the stored traces of each prompt, without replacement."""
        size = self.stored.group_size
        rows = torch.cat(
            [
                self._groups[tuple(prompt)] * size + torch.randperm(size, generator=generator)[:group_size]
                for prompt in prompts
            ]
        )
        tokens, logprobs = self.stored.tokens.select_with(rows, self.stored.logprobs)
        texts = tuple(self.stored.texts[row] for row in rows.tolist())
        return Rollouts(tokens, logprobs, self.stored.finished[rows], texts, group_size)

    @cached_property
    def _groups(self) -> dict[tuple[int, ...], int]:
        size, tokens = self.stored.group_size, self.stored.tokens
        firsts = tokens.select(torch.arange(0, len(tokens), size)).traces()
        return {tuple(trace.prompt_ids): group for group, trace in enumerate(firsts)}
