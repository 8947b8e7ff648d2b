"""Sampling token by token: what all of our own loops share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rairl_lightning.functional.heap import give_back
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.models.modes import evaluating
from rairl_lightning.rollouts.base import PartOfDraws, Sampler, check_bounds, check_prompts, uniforms
from rairl_lightning.rollouts.drawing import draw
from rairl_lightning.types import Rollouts, TokenBatch

WORTH_GIVING_BACK = 2**25  # parameters: a copy of fewer is no memory to speak of


class Decoding(Protocol):
    """Rows being continued.

    Attributes:
        logits: ``[N, V]`` float32, of each row's next token.
        rows: ``[N]`` numbers of the rows that are left.
    """

    logits: Tensor
    rows: Tensor

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``."""

    def append(self, tokens: Tensor) -> None:
        """Read one more token of every row."""


@dataclass(frozen=True)
class StepwiseSampler(Sampler):
    """Draws a token of every row at a time, with the policy's own weights, in process.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_rows: rows decoded at once; None takes all.
        compact_below: when the unfinished share of the rows falls below this, the others leave; 0 keeps them.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    max_rows: int | None = None
    compact_below: float = 0.8

    def __post_init__(self) -> None:
        check_bounds(
            self,
            max_new_tokens=(self.max_new_tokens >= 1, ">= 1"),
            temperature=(self.temperature >= 0, ">= 0"),
            top_p=(0 < self.top_p <= 1, "0 < top_p <= 1"),
            max_rows=(self.max_rows is None or self.max_rows >= 1, ">= 1 or null"),
            compact_below=(0 <= self.compact_below <= 1, "0 <= compact_below <= 1"),
        )

    def shrinks(self, remaining: int, rows: int) -> bool:
        """Whether the rows that have finished leave now.

        Args:
            remaining: unfinished rows.
            rows: that are decoded.
        """
        return remaining < self.compact_below * rows

    @abstractmethod
    def decoding(self, policy: Policy, pad_id: int) -> Callable[[Sequence[Sequence[int]], int], Decoding]:
        """Get ready for one call of :meth:`sample`.

        Args:
            policy: in evaluation mode; it does not change during the call.
            pad_id: any token.

        Returns:
            What reads prompts and how many samples of each, and goes on from there.
        """

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator | PartOfDraws,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """See :meth:`Sampler.sample`."""
        check_prompts(prompts)
        heat = self.temperature if temperature is None else temperature
        drawn: list[tuple[list[int], Tensor]] = []
        # All draws come first: they then depend neither on when rows finish, nor on compaction, nor on the passes.
        uniforms_TN = uniforms(generator, self.max_new_tokens, len(prompts), group_size).to(policy.device)
        with evaluating(policy), torch.inference_mode():
            start = self.decoding(policy, codec.pad_id)
            for part, count in self._passes(prompts, group_size):
                own_TN = uniforms_TN[:, len(drawn) : len(drawn) + len(part) * count]
                drawn += self._decode(start(part, count), codec, own_TN, heat)
            del start
        if policy.device.type == "cpu" and sum(map(torch.numel, policy.parameters())) > WORTH_GIVING_BACK:
            give_back()  # a copy of the weights, keys and values: an update wants the room in pieces of other sizes
        return collect(prompts, drawn, group_size, codec, policy.device)

    def _passes(
        self, prompts: Sequence[Sequence[int]], group_size: int
    ) -> Iterator[tuple[Sequence[Sequence[int]], int]]:
        """Yield prompts and how many samples of each, in the order of the rows, at most ``max_rows`` at a time."""
        limit = self.max_rows or max(1, len(prompts)) * group_size
        together, share = max(1, limit // group_size), min(group_size, limit)
        for first in range(0, len(prompts), together):
            for done in range(0, group_size, share):
                yield prompts[first : first + together], min(share, group_size - done)

    def _decode(
        self, batch: Decoding, codec: TraceCodec, uniforms_TN: Tensor, temperature: float
    ) -> list[tuple[list[int], Tensor]]:
        ids_TN = torch.full(uniforms_TN.shape, codec.pad_id, device=uniforms_TN.device)
        logprobs_TN = torch.zeros(uniforms_TN.shape, device=uniforms_TN.device)
        alive = torch.ones(len(batch.rows), dtype=torch.bool, device=uniforms_TN.device)
        for step, uniforms_N in enumerate(uniforms_TN):
            tokens, logprobs = draw(batch.logits, uniforms_N[batch.rows], temperature, self.top_p)
            ids_TN[step, batch.rows] = tokens
            logprobs_TN[step, batch.rows] = logprobs
            alive &= tokens != codec.eos_id
            remaining = int(alive.sum())
            if remaining == 0 or step + 1 == self.max_new_tokens:
                break
            if self.shrinks(remaining, len(alive)):
                kept = alive.nonzero().squeeze(1)
                batch.keep(kept)
                tokens, alive = tokens[kept], alive[kept]
            batch.append(tokens)
        return _cut(ids_TN.T, logprobs_TN.T, step + 1, codec.eos_id)


def _cut(ids_NT: Tensor, logprobs_NT: Tensor, steps: int, eos_id: int) -> list[tuple[list[int], Tensor]]:
    """End each row after its first end of turn."""
    ids_NT, logprobs_NT = ids_NT[:, :steps].cpu(), logprobs_NT[:, :steps].cpu()
    stopped = ids_NT == eos_id
    lengths = torch.where(stopped.any(dim=1), stopped.long().argmax(dim=1) + 1, steps).tolist()
    return [(ids_NT[n, :length].tolist(), logprobs_NT[n, :length]) for n, length in enumerate(lengths)]


def collect(
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[tuple[list[int], Tensor]],
    group_size: int,
    codec: TraceCodec,
    device: torch.device,
    version: str | None = None,
) -> Rollouts:
    """Rollouts of what was drawn.

    Args:
        prompts: B of them.
        drawn: ids of each of the B·G completions, and their log-probabilities on the CPU.
        group_size: G.
        codec: says where steps end and what the text is.
        device: where the rollouts go.
        version: of the weights that drew them, where they are not the policy's own.
    """
    traces, texts = [], []
    for row, (ids, _) in enumerate(drawn):
        trace, text = codec.trace(prompts[row // group_size], ids)
        traces.append(trace)
        texts.append(text)
    tokens = TokenBatch.from_traces(traces, codec.pad_id)
    logprobs_NT = torch.zeros(tokens.input_ids.shape)
    if drawn:
        logprobs_NT[tokens.completion_mask] = torch.cat([values for _, values in drawn])
    finished = torch.tensor([ids[-1] == codec.eos_id for ids, _ in drawn], dtype=torch.bool)
    return Rollouts(tokens.to(device), logprobs_NT.to(device), finished.to(device), tuple(texts), group_size, version)
