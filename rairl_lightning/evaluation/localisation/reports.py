"""Both protocols from data and a trained reward to plain numbers, with everything odd counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.components.step_scores import StepScore
from rairl_lightning.data.negatives import PerturbedDemonstrations
from rairl_lightning.data.traces.base import LabelledSteps
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.localisation.natural import ScoredSteps, cross_fitted, score_steps
from rairl_lightning.evaluation.localisation.natural_figures import natural_figures
from rairl_lightning.evaluation.localisation.pairs import (
    BATCH,
    LocatedPairs,
    Progress,
    locate_pairs,
    pair_figures,
    rows_of,
)
from rairl_lightning.evaluation.localisation.solutions import StepTrace, step_traces
from rairl_lightning.evaluation.overlap import questions_trained_on
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.text.perturbations import Perturbation
from rairl_lightning.types import Demonstration, Perturbed


@dataclass(frozen=True)
class PairsReport:
    """Corrupted traces.

    Attributes:
        demonstrations: the clean ones that were corrupted.
        pairs: located.
        figures: for the summary.
    """

    demonstrations: tuple[Demonstration, ...]
    pairs: LocatedPairs
    figures: dict[str, Any]


@dataclass(frozen=True)
class SolutionsReport:
    """Solutions with a marked first wrong step.

    Attributes:
        traces: N solutions that could be read.
        scored: the same, with their scores.
        predicted: by method, ``[N]``.
        thresholds: by method, used on the first and on the second half of the questions.
        figures: for the summary.
    """

    traces: list[StepTrace]
    scored: ScoredSteps
    predicted: dict[str, Tensor]
    thresholds: dict[str, tuple[float, float]]
    figures: dict[str, Any]


def report_pairs(
    reward: TrainedReward,
    demonstrations: Sequence[Demonstration],
    perturbations: Sequence[Perturbation],
    *,
    copies: int = 1,
    every: int = 15,
    seed: int = 0,
    progress: Progress = iter,
) -> PairsReport:
    """Corrupt demonstrations and find out where (the paper's protocol).

    Args:
        reward: trained.
        demonstrations: held out of its training.
        perturbations: kinds to draw from.
        copies: corruptions of each demonstration, >= 1.
        every: tokens of an interval, >= 1.
        seed: of corruptions and resamples.
        progress: shows how far the batches are.

    Raises:
        DataError: nothing could be corrupted.
    """
    kept, perturbed, counts = _corrupted(reward, demonstrations, perturbations, copies, seed)
    pairs = locate_pairs(reward, kept, perturbed, every, progress)
    asked = questions_trained_on(reward.trained_on, {kept[row].prompt for row in perturbed.sources.tolist()})
    kinds = {kind: torch.tensor([one == kind for one in perturbed.kinds]) for kind in sorted(set(perturbed.kinds))}
    pointing = {method: one for method, one in pairs.located.items() if method != "chance"}
    broken = {method: int(one.broken_N.sum()) for method, one in pointing.items()}
    nowhere = {method: int((one.columns_N < 0).sum()) - broken[method] for method, one in pointing.items()}
    figures = {
        **pair_figures(pairs, torch.ones(len(perturbed.kinds), dtype=torch.bool), seed),
        "by_kind": {kind: pair_figures(pairs, rows, seed) for kind, rows in kinds.items()},
        "counts": {**counts, **asked, "not_finite": broken, "points_nowhere": nowhere},
    }
    return PairsReport(kept, pairs, figures)


def report_solutions(
    reward: TrainedReward,
    solutions: Sequence[LabelledSteps],
    score: StepScore,
    *,
    by: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = iter,
) -> SolutionsReport:
    """Find the first wrong step of solutions (ProcessBench's protocol).

    Args:
        reward: trained.
        solutions: of at least two questions.
        score: of a step.
        by: keys of ``meta`` by which results are also given apart.
        seed: of the resamples.
        progress: shows how far the batches are.

    Raises:
        DataError: no solution could be read, or all are of one question.
    """
    traces, left_out = step_traces(solutions, reward.codec, reward.context)
    if not traces:
        raise DataError("No solution can be read.", expected="at least 1", got=dict(left_out))
    scores = []
    for rows in progress(torch.arange(len(traces)).split(BATCH)):
        scores += score_steps(reward, [traces[row] for row in rows.tolist()], score)
    scored = ScoredSteps.build(traces, scores, by)
    fitted = {method: cross_fitted(scored, method) for method in scored.scores}
    predicted = {method: predicted_N for method, (predicted_N, _) in fitted.items()}
    thresholds = {method: pair for method, (_, pair) in fitted.items()}
    broken = {method: int(scored.broken(method).sum()) for method in scored.scores}
    asked = questions_trained_on(reward.trained_on, {one.solution.prompt for one in traces})
    figures = {
        "all": natural_figures(scored, predicted, seed),
        "subsets": _by_subset(scored, predicted, seed),
        "thresholds": {method: list(pair) for method, pair in thresholds.items()},
        "counts": {"solutions": len(solutions), "left_out": dict(left_out), **asked, "not_finite": broken},
    }
    return SolutionsReport(traces, scored, predicted, thresholds, figures)


def _corrupted(
    reward: TrainedReward,
    demonstrations: Sequence[Demonstration],
    kinds: Sequence[Perturbation],
    copies: int,
    seed: int,
) -> tuple[tuple[Demonstration, ...], Perturbed, dict[str, Any]]:
    """Corrupt what fits the context; what fits no longer once corrupted is left out too."""
    longest = reward.context or torch.iinfo(torch.int64).max
    lengths = [len(reward.codec.encode_demonstration(one)) for one in demonstrations]
    kept = tuple(one for one, length in zip(demonstrations, lengths, strict=True) if length <= longest)
    negatives = PerturbedDemonstrations(kinds, reward.codec)
    made = negatives(kept, copies, random.Random(f"{seed} localisation"))
    fits = made.tokens.lengths_N <= longest
    if not bool(fits.any()):
        raise DataError(
            "No demonstration could be corrupted.",
            expected="at least one to which a perturbation applies",
            got=f"{len(demonstrations)} demonstrations, {len(kept)} within the context",
            remedy="give other --perturbations, or more demonstrations",
        )
    perturbed = rows_of(made, fits.nonzero()[:, 0])
    counts = {
        "demonstrations": len(demonstrations),
        "longer_than_the_context": len(demonstrations) - len(kept) + int((~fits).sum()),
        "not_corrupted": len(kept) - len(made.sources.unique()),
        "kinds": dict(sorted(Counter(perturbed.kinds).items())),
        "kind_did_not_apply": dict(sorted(negatives.rejected.items())),
    }
    return kept, perturbed, counts


def _by_subset(scored: ScoredSteps, predicted: dict[str, Tensor], seed: int) -> dict[str, Any]:
    names = sorted(set(scored.subsets))
    out = {}
    for name in names if len(names) > 1 else ():
        rows = torch.tensor([row for row, subset in enumerate(scored.subsets) if subset == name])
        own = {method: predicted_N[rows] for method, predicted_N in predicted.items()}
        out[name or "none"] = natural_figures(scored.select(rows), own, seed)
    return out
