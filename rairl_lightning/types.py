"""The data that travels between the rooms: plain frozen dataclasses of tensors, ids all the way.

Shape suffixes: ``_B`` prompts, ``_G`` samples of one prompt, ``_N`` = B·G traces, ``_T`` tokens (prompt and
completion), ``_K`` segments, ``_V`` vocabulary. In every ``[N, T]`` tensor column ``t`` belongs to token ``t``:
``logprobs[n, t] = log π(x_t | x_<t)`` and a discriminator logit at ``t`` has read ``x_≤t``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from rairl_lightning.errors import DataError


@dataclass(frozen=True)
class Demonstration:
    """An expert's solution of one prompt.

    Attributes:
        id: unique within its data set, stable across runs.
        prompt: the question as the user asks it (no chat template).
        reasoning: the chain of thought, one step a line, without tags.
        answer: the final answer as text; of a multiple-choice question the letter of the right option.
        meta: anything to report by (category, template, …); never read by training.
        options: texts of the options A, B, C, … of a multiple-choice question, which the prompt lists too; else empty.
    """

    id: str
    prompt: str
    reasoning: str
    answer: str
    meta: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class TraceIds:
    """One trace as token ids, before padding.

    Attributes:
        prompt_ids: ids of the templated prompt, including the generation prompt.
        completion_ids: ids of the completion; ends with the end-of-turn id when the trace is complete.
        step_ends: one flag per completion token, True on the last token of a reasoning step.
        char_offsets: one ``(start, end)`` per completion token, in characters of the decoded completion.
    """

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    step_ends: Sequence[bool]
    char_offsets: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class TokenBatch:
    """Padded traces: the only thing passed between sampler, discriminator, reward and evaluation.

    Masks come from lengths, never from comparing ids with the pad, so that pad may equal eos.

    Attributes:
        input_ids: ``[N, T]`` int64; pad id where ``attention_mask`` is False.
        attention_mask: ``[N, T]`` bool; True on prompt and completion.
        completion_mask: ``[N, T]`` bool; True on completion tokens, the end-of-turn token included.
        step_ends: ``[N, T]`` bool; True on the last token of each reasoning step.
        char_offsets: ``[N, T, 2]`` int32; ``(start, end)`` in the completion's text, 0 elsewhere.
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor
    step_ends: Tensor
    char_offsets: Tensor

    @classmethod
    def from_traces(cls, traces: Sequence[TraceIds], pad_id: int, *, side: str = "right") -> Self:
        """Pad traces to their longest.

        Args:
            traces: N traces.
            pad_id: id written where there is no token.
            side: ``"right"`` (training) or ``"left"``; no result of ours depends on it.
        """
        width = max((len(trace) for trace in traces), default=0)
        count = len(traces)
        ids = torch.full((count, width), pad_id, dtype=torch.int64)
        attention, completion, ends = (torch.zeros(count, width, dtype=torch.bool) for _ in range(3))
        offsets = torch.zeros(count, width, 2, dtype=torch.int32)
        for row, trace in enumerate(traces):
            start = width - len(trace) if side == "left" else 0
            middle, stop = start + len(trace.prompt_ids), start + len(trace)
            ids[row, start:stop] = torch.tensor([*trace.prompt_ids, *trace.completion_ids], dtype=torch.int64)
            attention[row, start:stop] = True
            completion[row, middle:stop] = True
            if stop > middle:
                ends[row, middle:stop] = torch.tensor(list(trace.step_ends), dtype=torch.bool)
                offsets[row, middle:stop] = torch.tensor(list(trace.char_offsets), dtype=torch.int32)
        return cls(ids, attention, completion, ends, offsets)

    @classmethod
    def cat(cls, batches: Iterable[TokenBatch], pad_id: int) -> TokenBatch:
        """Stack batches of different widths, padding on the right."""
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return cls.from_traces([], pad_id)
        width = max(batch.input_ids.shape[1] for batch in batches)
        return cls(*(torch.cat(column) for column in zip(*(b._widened(width, pad_id) for b in batches), strict=True)))

    def _widened(self, width: int, pad_id: int) -> list[Tensor]:
        extra = width - self.input_ids.shape[1]
        out = []
        for item in fields(self):
            value = getattr(self, item.name)
            fill = value.new_full((len(self), extra, *value.shape[2:]), pad_id if item.name == "input_ids" else 0)
            out.append(torch.cat([value, fill], dim=1))
        return out

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def lengths_N(self) -> Tensor:
        """Real tokens of each trace, ``[N]``."""
        return self.attention_mask.sum(dim=1)

    @property
    def completion_lengths_N(self) -> Tensor:
        """Completion tokens of each trace, ``[N]``."""
        return self.completion_mask.sum(dim=1)

    @property
    def position_ids(self) -> Tensor:
        """Position of each token among the real ones, ``[N, T]``; independent of the padding side."""
        return (self.attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.input_ids.device

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on ``device``."""
        return TokenBatch(*(getattr(self, item.name).to(device) for item in fields(self)))

    def select(self, rows: Tensor | Sequence[int]) -> TokenBatch:
        """The given rows, in the given order, trimmed to the columns that hold a token."""
        return self.select_with(rows)[0]

    def select_with(self, rows: Tensor | Sequence[int], *values_NT: Tensor) -> tuple[TokenBatch, *tuple[Tensor, ...]]:
        """Like :meth:`select`, with the same rows and columns of other ``[N, T]`` tensors."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        used = self.attention_mask[index].any(dim=0)
        batch = TokenBatch(*(getattr(self, item.name)[index][:, used] for item in fields(self)))
        return batch, *(values[index][:, used] for values in values_NT)

    def traces(self) -> list[TraceIds]:
        """The rows without padding; the inverse of :meth:`from_traces`."""
        out = []
        for row in range(len(self)):
            prompt = self.attention_mask[row] & ~self.completion_mask[row]
            completion = self.completion_mask[row]
            out.append(
                TraceIds(
                    self.input_ids[row, prompt].tolist(),
                    self.input_ids[row, completion].tolist(),
                    self.step_ends[row, completion].tolist(),
                    [(start, end) for start, end in self.char_offsets[row, completion].tolist()],
                )
            )
        return out


@dataclass(frozen=True)
class Rollouts:
    """Traces sampled from the policy, with what the policy thought of them while sampling.

    Rows of one prompt (a *group*) are adjacent: row ``b * group_size + g`` is sample ``g`` of prompt ``b``.

    Attributes:
        tokens: N = B·G traces.
        logprobs: ``[N, T]`` float32; log-probability of each completion token under the sampling
            distribution (its temperature included), 0 elsewhere.
        finished: ``[N]`` bool; True if the trace ended with the end-of-turn token, False if it was cut.
        texts: N decoded completions, special tokens removed.
        group_size: G.
        version: of the weights that drew them (``Policy.version``); a sampler that reads the policy's own leaves it to
            the algorithm.
    """

    tokens: TokenBatch
    logprobs: Tensor
    finished: Tensor
    texts: tuple[str, ...]
    group_size: int
    version: str | None = None

    def __post_init__(self) -> None:
        if self.group_size < 1 or len(self.tokens) % self.group_size:
            raise DataError(
                "A group was split.",
                expected=f"a multiple of group_size = {self.group_size} traces",
                got=f"{len(self.tokens)} traces",
            )

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Perturbed:
    """Demonstrations corrupted at a known place.

    Attributes:
        tokens: P corrupted traces.
        spans: ``[P, 2]`` int32; ``(start, end)`` of the changed characters in the corrupted completion.
        sources: ``[P]`` int64; row of the demonstration in its batch.
        kinds: P names of perturbations.
    """

    tokens: TokenBatch
    spans: Tensor
    sources: Tensor
    kinds: tuple[str, ...]

    def to(self, device: torch.device | str) -> Perturbed:
        """The same with the traces and spans on ``device``."""
        return replace(self, tokens=self.tokens.to(device), spans=self.spans.to(device))


@dataclass(frozen=True)
class TrainBatch:
    """What one round starts from.

    Attributes:
        demonstrations: B expert solutions (their answers label the rollouts).
        prompts: B templated prompts as ids.
        experts: the B demonstrations as traces, row b for prompt b.
        perturbed: corrupted demonstrations, negatives for the discriminator; may hold 0 traces.
        replayed: rollouts of earlier rounds, negatives for the discriminator; may hold 0 traces.
    """

    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[tuple[int, ...], ...]
    experts: TokenBatch
    perturbed: Perturbed
    replayed: TokenBatch

    def __len__(self) -> int:
        return len(self.demonstrations)

    def repeated(self, group_size: int) -> list[Demonstration]:
        """The demonstrations, each repeated for its group: one for every trace of the round."""
        return [demonstration for demonstration in self.demonstrations for _ in range(group_size)]

    def answers(self, group_size: int) -> list[str]:
        """Their answers, likewise."""
        return [demonstration.answer for demonstration in self.repeated(group_size)]

    def to(self, device: torch.device | str) -> TrainBatch:
        """The same batch on ``device`` (Lightning calls this)."""
        return replace(
            self,
            experts=self.experts.to(device),
            perturbed=self.perturbed.to(device),
            replayed=self.replayed.to(device),
        )
