"""What was found in each trace, as rows for JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from rairl_lightning.evaluation.localisation.natural import NO_PREDICTION, ScoredSteps
from rairl_lightning.evaluation.localisation.pairs import LocatedPairs
from rairl_lightning.evaluation.localisation.solutions import StepTrace
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.types import Demonstration

Row = dict[str, Any]


def pair_rows(pairs: LocatedPairs, demonstrations: Sequence[Demonstration], codec: TraceCodec) -> Iterator[Row]:
    """For each corrupted trace: its text, the changed characters, and where each method points.

    Args:
        pairs: located.
        demonstrations: the clean ones.
        codec: of the reward.
    """
    traces = pairs.perturbed.tokens.traces()
    methods = [method for method in pairs.located if method != "chance"]
    for row, trace in enumerate(traces):
        predicted = {}
        for method in methods:
            token = int(pairs.located[method].columns_N[row])
            predicted[method] = list(trace.char_offsets[token]) if token >= 0 else None
        levels = {method: pairs.located[method].levels for method in methods}
        yield {
            "id": demonstrations[int(pairs.perturbed.sources[row])].id,
            "kind": pairs.perturbed.kinds[row],
            "completion": codec.decode(trace.completion_ids),
            "changed": pairs.perturbed.spans[row].tolist(),
            "predicted": predicted,
            "hit": {m: {level: bool(found.hit[row]) for level, found in levels[m].items()} for m in methods},
            "clean": {name: _number(values[row]) for name, values in pairs.clean.items()},
            "corrupted": {name: _number(values[row]) for name, values in pairs.corrupted.items()},
        }


def solution_rows(
    traces: Sequence[StepTrace],
    solutions: ScoredSteps,
    predicted_N: Tensor,
    thresholds: tuple[float, float],
) -> Iterator[Row]:
    """For each labelled solution: what the reward predicts, by which threshold, and the scores of every step.

    Args:
        traces: N solutions.
        solutions: the same, scored.
        predicted_N: the reward's prediction.
        thresholds: of the reward, on the first and on the second half of the questions.
    """
    for row, trace in enumerate(traces):
        at = int(predicted_N[row])
        spans = enumerate(zip(trace.solution.steps, trace.characters, strict=True))
        yield {
            "id": trace.solution.id,
            "label": trace.solution.label,
            "predicted": None if at == NO_PREDICTION else at,
            "threshold": thresholds[int(solutions.second_N[row])],
            "meta": trace.solution.meta,
            "completion": trace.text,
            "steps": [
                {"text": text, "start": start, "end": end, **_scores(solutions, row, step)}
                for step, (text, (start, end)) in spans
            ],
        }


def _scores(solutions: ScoredSteps, row: int, step: int) -> Row:
    """The reward's is called ``score``; the others by their method."""
    names = {method: "score" if method == "reward" else method for method in solutions.scores}
    return {names[method]: _number(scores_NK[row, step]) for method, scores_NK in solutions.scores.items()}


def _number(value: Tensor) -> float | None:
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None
