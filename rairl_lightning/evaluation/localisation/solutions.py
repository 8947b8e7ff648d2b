"""Solutions with marked steps as traces: which characters and tokens each given step covers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.data.traces.base import LabelledSteps
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.chat import TAG, THINK_OPEN, render_completion
from rairl_lightning.types import TokenBatch, TraceIds

Span = tuple[int, int]


@dataclass(frozen=True)
class StepTrace:
    """A labelled solution as ids.

    Attributes:
        solution: as it was read.
        trace: prompt and completion; the reasoning stays open where the solution's answer is not known.
        text: the completion.
        characters: ``(start, end)`` of each of the K steps in ``text``.
        tokens: first and last completion token of each step.
    """

    solution: LabelledSteps
    trace: TraceIds
    text: str
    characters: tuple[Span, ...]
    tokens: tuple[Span, ...]


def step_traces(
    solutions: Sequence[LabelledSteps], codec: TraceCodec, longest: int | None = None
) -> tuple[list[StepTrace], Counter[str]]:
    """Encode solutions, and leave out those that cannot be read as they stand.

    Steps become lines, without the white space around them; a step of several lines stays one. Text with a think or
    answer tag would say something else in the layout of a trace, so it is left out, not changed.

    Args:
        solutions: with their steps.
        codec: turns text into ids.
        longest: most tokens of prompt and completion; None is no limit.

    Returns:
        The traces in the given order, and how many were left out by reason.
    """
    traces, left_out = [], Counter[str]()
    for solution in solutions:
        reason = _unreadable(solution)
        trace = None if reason else _encoded(solution, codec)
        if trace is None:
            left_out[reason or "text the tokenizer cannot hold"] += 1
        elif longest is not None and len(trace.trace) > longest:
            left_out["longer than the context"] += 1
        else:
            traces.append(trace)
    return traces, left_out


def rendered_steps(steps: Sequence[str], answer: str | None) -> tuple[str, tuple[Span, ...]]:
    r"""Write steps in the layout of a trace.

    Args:
        steps: without tags, none empty.
        answer: final answer; None leaves the reasoning open, as in a trace that was cut.

    Returns:
        The completion, and the ``(start, end)`` of each step in it.

    >>> rendered_steps([" 2 + 2 = 4 ", "So 4."], None)
    ('<think>\n2 + 2 = 4\nSo 4.', ((8, 17), (18, 23)))
    """
    lines = [step.strip() for step in steps]
    reasoning = "\n".join(lines)
    text = f"{THINK_OPEN}\n{reasoning}" if answer is None else render_completion(reasoning, answer)
    spans, start = [], len(THINK_OPEN) + 1
    for line in lines:
        spans.append((start, start + len(line)))
        start += len(line) + 1
    return text, tuple(spans)


def span_columns(traces: Sequence[StepTrace], tokens: TokenBatch) -> Tensor:
    """First and last column of each step in a padded batch.

    Args:
        traces: N >= 1 of them, at most K steps each.
        tokens: the same, padded on either side.

    Returns:
        ``[N, K, 2]`` int64, -1 where there is no step.
    """
    steps = max(len(one.tokens) for one in traces)
    spans_NK2 = torch.full((len(traces), steps, 2), -1, dtype=torch.int64)
    begins = tokens.completion_mask.long().argmax(dim=1).tolist()
    for row, (one, begin) in enumerate(zip(traces, begins, strict=True)):
        spans_NK2[row, : len(one.tokens)] = torch.tensor(one.tokens) + begin
    return spans_NK2.to(tokens.device)


def _unreadable(solution: LabelledSteps) -> str | None:
    if any(TAG.search(text) for text in (*solution.steps, solution.answer or "")):
        return "a tag in the text"
    return None if all(step.strip() for step in solution.steps) else "an empty step"


def _encoded(solution: LabelledSteps, codec: TraceCodec) -> StepTrace | None:
    text, characters = rendered_steps(solution.steps, solution.answer)
    ids = codec.encode_completion(text)
    if solution.answer is None:
        ids = ids[:-1]  # nothing ends the turn of an open trace
    trace, decoded = codec.trace(codec.encode_prompt(solution.prompt), ids)
    tokens = _covering(trace.char_offsets, characters)
    return StepTrace(solution, trace, text, characters, tokens) if decoded == text else None


def _covering(offsets: Sequence[Span], characters: Sequence[Span]) -> tuple[Span, ...]:
    """First and last token that overlap each span of characters; offsets rise along the completion."""
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    spans = []
    for start, end in characters:
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        while last > first and starts[last] == ends[last]:
            last -= 1
        spans.append((first, last))
    return tuple(spans)
