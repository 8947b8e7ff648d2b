"""From traces to a file of scores, continued where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rairl_lightning.evaluation.long_traces import LeftOut, LongTraces
from rairl_lightning.evaluation.resumable import ResumableLines
from rairl_lightning.evaluation.scoring import WINDOW, Trace, score_traces
from rairl_lightning.evaluation.tally import Tally
from rairl_lightning.evaluation.trained import TrainedReward


def score_file(
    reward: TrainedReward,
    traces: Iterable[Trace],
    lines: ResumableLines,
    *,
    long: LongTraces = LeftOut(),
    tokens: bool = False,
    window: int = WINDOW,
) -> Iterator[Tally]:
    """Write the lines that are missing.

    Args:
        reward: that was trained.
        traces: all of the input, those already written too: they are compared.
        lines: the file.
        long: what is done with traces longer than the model's context.
        tokens: whether tokens are written.
        window: traces between two notes of how far it is, >= 1.

    Yields:
        The figures of the whole file so far: at the start, and after every window.

    Raises:
        DataError: the traces are not those of the lines already written.
    """
    tally = Tally.read(lines.notes)
    remaining = iter(traces)
    lines.skip(map(_identity, islice(remaining, lines.lines)))
    yield tally
    for part in score_traces(reward, remaining, long, window):
        tally.add(part)
        inputs = [_identity(one.trace) for one in part]
        lines.write(inputs, [one.to_json(tokens=tokens) for one in part], tally.notes())
        yield tally


def followed(parts: Iterator[Tally], total: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw the progress of :func:`score_file`.

    Args:
        parts: its figures.
        total: traces at most, if that is known.

    Returns:
        The figures of the file at the start, and at the end.
    """
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        first = figures = next(parts).figures()
        task = bar.add_task("traces", total=total, completed=first["traces"])
        for tally in parts:
            figures = tally.figures()
            bar.update(task, completed=figures["traces"])
    return first, figures


def _identity(trace: Trace) -> str:
    """All that a line is made from beside the reward."""
    question = trace.question
    parts = (question.id, question.prompt, trace.completion, trace.answer, trace.grade.value, trace.finished)
    return json.dumps((*parts, dict(trace.record)), sort_keys=True, default=str)
