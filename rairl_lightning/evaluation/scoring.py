"""Scoring files of traces: in batches by tokens, in the order of the file, every oddity counted."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any

import torch

from rairl_lightning.data.traces import SampledQuestion, TraceSource
from rairl_lightning.evaluation.long_traces import LeftOut, LongTraces
from rairl_lightning.evaluation.trained import Scores, TrainedReward
from rairl_lightning.evaluation.windowed import windowed
from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.text.graders import Grade
from rairl_lightning.text.steps import step_spans
from rairl_lightning.types import Demonstration, TokenBatch, TraceIds

WINDOW = 256
"""Traces that are sorted by length at a time: enough for little padding, few enough to lose when interrupted."""

EMPTY, TOO_LONG, WINDOWED = "empty", "too_long", "windowed"
NOT_FINITE, UNANSWERED, CHANGED = "not_finite", "no_answer", "text_changed"
PROBLEMS = {
    EMPTY: "the completion has no text; not scored",
    TOO_LONG: "longer than the model's context; not scored",
    WINDOWED: "longer than the model's context; read in windows",
    NOT_FINITE: "the model gave NaN or an infinity; no reward",
    UNANSWERED: "states no answer, or several that differ",
    CHANGED: "the tokenizer does not give the text back; offsets refer to what it gives",
}
"""What may be odd about a trace, and what follows."""


@dataclass(frozen=True)
class Trace:
    """One completion of one question, as a file gave it.

    Attributes:
        question: the question.
        completion: text.
        answer: the extracted answer.
        grade: of it.
        record: the row it came from; may be empty.
        finished: whether the model ended its turn itself; None where unknown.
    """

    question: Demonstration
    completion: str
    answer: str | None
    grade: Grade
    record: Mapping[str, object]
    finished: bool | None = None


@dataclass(frozen=True)
class TraceScore:
    """What the reward says of one trace.

    Attributes:
        trace: what was scored.
        ids: its tokens.
        text: the completion as the tokens give it.
        reward: of the trace; None where it was not scored, or is not finite.
        rewards: ``[T]`` back-filled reward of each completion token; None where it was not scored.
        pay: ``[T]`` what the critic would pay, neither tempered nor clipped, meaningful on the grid; None likewise.
        grid: ``[T]`` whether the reward was read there.
        problems: of :data:`PROBLEMS`.
    """

    trace: Trace
    ids: TraceIds
    text: str
    reward: float | None
    rewards: tuple[float, ...] | None
    pay: tuple[float, ...] | None
    grid: tuple[bool, ...]
    problems: tuple[str, ...]

    def steps(self) -> list[dict[str, Any]]:
        """Each reasoning step: its characters, its text and the mean reward of its tokens."""
        found = []
        starts, ends = [start for start, _ in self.ids.char_offsets], [end for _, end in self.ids.char_offsets]
        for start, end in step_spans(self.text):
            own = self.rewards[bisect_right(ends, start) : bisect_left(starts, end)] if self.rewards else ()
            reward = _finite(math.fsum(own) / len(own)) if own else None
            found.append({"start": start, "end": end, "text": self.text[start:end], "reward": reward})
        return found

    def tokens(self) -> dict[str, list[Any]]:
        """Lists of one entry a completion token: text, characters, back-filled reward, whether it was read there."""
        rewards = [None] * len(self.ids.completion_ids) if self.rewards is None else [*map(_finite, self.rewards)]
        offsets = [list(span) for span in self.ids.char_offsets]
        text = [self.text[start:end] for start, end in self.ids.char_offsets]
        return {"text": text, "offsets": offsets, "reward": rewards, "grid": [int(point) for point in self.grid]}

    def to_json(self, *, tokens: bool) -> dict[str, Any]:
        """The input's fields and ours; an input's field of our name, with another value, moves under ``input``."""
        ours: dict[str, Any] = {
            "completion": self.trace.completion,  # as it was scored: a source may have laid it out
            "reward": self.reward,
            "steps": self.steps(),
            "extracted_answer": self.trace.answer,
            "grade": self.trace.grade.value,
            "length": len(self.ids.completion_ids),
            "problems": list(self.problems),
            **({"tokens": self.tokens()} if tokens else {}),
        }
        given = dict(self.trace.record) or {"id": self.trace.question.id, "prompt": self.trace.question.prompt}
        hidden = {key: value for key, value in given.items() if key in ours and value != ours[key]}
        return {**given, **ours, **({"input": hidden} if hidden else {})}


def traces_of(source: TraceSource) -> Iterator[Trace]:
    """Every trace of every question, in the order of the source's rows where it knows them, else of its questions.

    As early as can be: questions come in the order of their first rows, so that a trace waits for no question that
    begins behind it.
    """
    waiting: list[tuple[int, int, Trace]] = []
    arrivals = count()
    for one in source.questions():
        first = min(one.rows) if one.rows else math.inf
        while waiting and waiting[0][0] < first:
            yield heappop(waiting)[2]
        if not one.rows:
            yield from traces_to(one)
            continue
        for row, trace in zip(one.rows, traces_to(one), strict=True):
            heappush(waiting, (row, next(arrivals), trace))  # by arrival within a row, which may have several texts
    while waiting:
        yield heappop(waiting)[2]


def traces_to(one: SampledQuestion) -> Iterator[Trace]:
    """Every trace of one question."""
    number = len(one.completions)
    records, finished = one.records or ({},) * number, one.finished or (None,) * number
    for columns in zip(one.completions, one.answers, one.grades, records, finished, strict=True):
        yield Trace(one.question, *columns)


def score_traces(
    reward: TrainedReward, traces: Iterable[Trace], long: LongTraces = LeftOut(), window: int = WINDOW
) -> Iterator[list[TraceScore]]:
    """Score traces in the order they come; no score depends on the others.

    Args:
        reward: that was trained.
        traces: any number.
        long: what is done with traces longer than the model's context.
        window: traces that are encoded and sorted at a time, >= 1.

    Yields:
        The scores of each window.

    Raises:
        DataError: a long trace is refused.
    """
    remaining = iter(traces)
    while part := list(islice(remaining, window)):
        encoded = [reward.codec.encode_trace(one.question.prompt, one.completion, one.finished) for one in part]
        scores = _score(reward, [ids for ids, _ in encoded], long)
        yield [_result(trace, *one, score) for trace, one, score in zip(part, encoded, scores, strict=True)]


@dataclass(frozen=True)
class _Row:
    finite: bool
    reward: float
    rewards: tuple[float, ...]
    pay: tuple[float, ...]
    grid: tuple[bool, ...]
    windowed: bool = False


def _score(reward: TrainedReward, traces: Sequence[TraceIds], long: LongTraces) -> list[_Row | str]:
    """Each trace's scores, or the problem that left it without any."""
    found: list[_Row | str] = [EMPTY] * len(traces)
    context = reward.context or max(map(len, traces), default=0)
    short = []
    for place, trace in enumerate(traces):
        if not trace.completion_ids:
            continue
        if len(trace) <= context:
            short.append(place)
        else:
            found[place] = _in_windows(reward, trace, long, context)
    for rows in token_budget_split(torch.tensor([len(traces[place]) for place in short]), reward.max_tokens):
        places = [short[row] for row in rows.tolist()]
        tokens = TokenBatch.from_traces([traces[place] for place in places], reward.codec.pad_id)
        tokens = tokens.to(reward.models.discriminator.device)
        for place, row in zip(places, _rows(reward.score(tokens), tokens), strict=True):
            found[place] = row
    return found


def _in_windows(reward: TrainedReward, trace: TraceIds, long: LongTraces, context: int) -> _Row | str:
    windows = long.windows(len(trace.prompt_ids), len(trace.completion_ids), context)
    if not windows:
        return TOO_LONG
    discriminator, pad_id = reward.models.discriminator, reward.codec.pad_id
    read = partial(discriminator.score, max_tokens=reward.max_tokens)
    outputs = windowed(read, trace, windows, pad_id, discriminator.device)
    tokens = TokenBatch.from_traces([trace], pad_id).to(discriminator.device)
    return replace(_rows(reward.read(outputs, tokens), tokens)[0], windowed=True)


def _rows(scores: Scores, tokens: TokenBatch) -> list[_Row]:
    out = []
    for row, mask in enumerate(tokens.completion_mask):
        columns = (scores.rewards_NT, scores.pay_NT, scores.grid_NT)
        rewards, pay, grid = (tuple(values[row, mask].tolist()) for values in columns)
        read = scores.pay_NT[row, scores.grid_NT[row]]  # the reward's clip would hide an infinity
        finite = bool(read.isfinite().all() and scores.traces_N[row].isfinite())
        out.append(_Row(finite, float(scores.traces_N[row]), rewards, pay, grid))
    return out


def _result(trace: Trace, ids: TraceIds, text: str, score: _Row | str) -> TraceScore:
    problems = [] if trace.answer is not None else [UNANSWERED]
    if isinstance(score, str):
        return TraceScore(trace, ids, text, None, None, None, (), (score, *problems))
    if text != trace.completion:
        problems.append(CHANGED)
    if score.windowed:
        problems.insert(0, WINDOWED)
    if not score.finite:
        problems.insert(0, NOT_FINITE)
    value = _finite(score.reward) if score.finite else None
    return TraceScore(trace, ids, text, value, score.rewards, score.pay, score.grid, tuple(problems))


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
