"""Sampling in steps of fixed shapes, which a GPU replays as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rairl_lightning.models import Policy
from rairl_lightning.models.decoding.static import StaticDecoder, static_decoder
from rairl_lightning.rollouts.base import check_bounds, check_prompts
from rairl_lightning.rollouts.hf import RepeatedCache
from rairl_lightning.rollouts.stepwise import Decoding, StepwiseSampler

MOST_BUCKETS = 6  # torch compiles one function for at most eight shapes


@dataclass(frozen=True)
class StaticSampler(StepwiseSampler):
    """Samples in steps of a few fixed shapes, compiled and replayed from CUDA graphs on a GPU, plain on a CPU.

    Keys and values lie in one place, which is kept from round to round, as is what was compiled: both are there for
    ``max_rows`` rows of ``max_prompt_tokens + max_new_tokens`` tokens. Its tokens are those of HFSampler.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_rows: rows of the largest step; more are decoded in several passes.
        compact_below: when the unfinished share of the rows falls below this and they fit into a smaller step, the
            others leave; 0 keeps them.
        max_prompt_tokens: of the longest prompt that may come.
        buckets: sizes of steps: ``max_rows``, half of it, a quarter, …; 1 to 6.
        compiled: compile the steps; null does on a GPU.
    """

    max_rows: int = 64
    max_prompt_tokens: int = 512
    buckets: int = 4
    compiled: bool | None = None
    keeps_cache: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(
            self,
            max_rows=(self.max_rows is not None, "a number: the shapes are fixed"),
            max_prompt_tokens=(self.max_prompt_tokens >= 1, ">= 1"),
            buckets=(1 <= self.buckets <= MOST_BUCKETS, f"1 to {MOST_BUCKETS}"),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of a step, ascending."""
        return tuple(sorted({-(-self.max_rows // 2**halvings) for halvings in range(self.buckets)}))

    def size_for(self, rows: int) -> int:
        """The smallest step that takes so many rows."""
        return next(size for size in self.sizes if size >= rows)

    def shrinks(self, remaining: int, rows: int) -> bool:
        """See :class:`StepwiseSampler`; moving rows pays where a smaller step takes them."""
        return super().shrinks(remaining, rows) and self.size_for(remaining) < self.size_for(rows)

    def decoding(self, policy: Policy, pad_id: int) -> Callable[[Sequence[Sequence[int]], int], Decoding]:
        """See :class:`StepwiseSampler`."""
        compiled = policy.device.type == "cuda" if self.compiled is None else self.compiled
        decoder = static_decoder(policy, self.sizes, self.max_prompt_tokens + self.max_new_tokens, compiled)

        def start(prompts: Sequence[Sequence[int]], count: int) -> Decoding:
            check_prompts(prompts, self.max_prompt_tokens)
            return StaticRows(policy, prompts, count, pad_id, decoder, self.size_for)

        return start


class StaticRows(RepeatedCache):
    """Rows being decoded in steps of fixed shapes; prompts are read as HFSampler reads them."""

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        count: int,
        pad_id: int,
        decoder: StaticDecoder,
        size_for: Callable[[int], int],
    ) -> None:
        super().__init__(policy, prompts, count, 0, pad_id)
        self.pad_id, self.static, self.size_for = pad_id, decoder, size_for
        decoder.start(self.cache, self.mask.bool())
        del self.cache
        self.positions = self._padded(self.positions[:, 0])

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``."""
        self.static.move_to_front(kept)
        self.rows, self.positions = self.rows[kept], self.positions[kept]
        self.positions = self._padded(self.positions)

    def append(self, tokens: Tensor) -> None:
        """Read one more token of every row."""
        self.logits = self.static.step(self._padded(tokens), self.positions)[: len(tokens)]
        self.positions = self.positions + 1

    def _padded(self, values_N: Tensor) -> Tensor:
        """Fill up to the size of the step."""
        return torch.nn.functional.pad(values_N, (0, self.size_for(len(self.rows)) - len(values_N)))
