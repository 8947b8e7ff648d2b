"""What was found in each trace, as rows for JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from rairl_lightning.evaluation.localisation.natural import NO_PREDICTION, ScoredSteps
from rairl_lightning.evaluation.localisation.pairs import LocatedPairs
from rairl_lightning.evaluation.localisation.perturbed import Located
from rairl_lightning.evaluation.localisation.solutions import StepTrace
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.types import Demonstration, Perturbed

Row = dict[str, Any]


def perturbed_rows(
    perturbed: Perturbed, located: Mapping[str, Located], demonstrations: Sequence[Demonstration], codec: TraceCodec
) -> Iterator[Row]:
    """For each corrupted trace: its text, the changed characters, and where each method points.

    Args:
        perturbed: N corrupted traces.
        located: by method; columns count from the first completion token.
        demonstrations: the clean ones.
        codec: that made the tokens.
    """
    found = {method: one for method, one in located.items() if method != "chance"}
    for row, trace in enumerate(perturbed.tokens.traces()):
        columns = {method: int(one.columns_N[row]) for method, one in found.items()}
        yield {
            "id": demonstrations[int(perturbed.sources[row])].id,
            "kind": perturbed.kinds[row],
            "completion": codec.decode(trace.completion_ids),
            "changed": perturbed.spans[row].tolist(),
            "predicted": {m: list(trace.char_offsets[at]) if at >= 0 else None for m, at in columns.items()},
            "hit": {m: {level: bool(one.hit[row]) for level, one in found[m].levels.items()} for m in found},
        }


def pair_rows(pairs: LocatedPairs, demonstrations: Sequence[Demonstration], codec: TraceCodec) -> Iterator[Row]:
    """:func:`perturbed_rows`, with the scores of the clean and of the corrupted trace.

    Args:
        pairs: located.
        demonstrations: the clean ones.
        codec: of the reward.
    """
    for row, one in enumerate(perturbed_rows(pairs.perturbed, pairs.located, demonstrations, codec)):
        yield {
            **one,
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
