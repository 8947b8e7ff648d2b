"""What the predictions of the first wrong step are worth: ProcessBench's F1 and figures that need no threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from rairl_lightning.evaluation.localisation.natural import ScoredSteps, constant_hits
from rairl_lightning.functional.bootstrap import percentile_interval, resampled_counts, resampled_means
from rairl_lightning.functional.first_error import harmonic_mean, lowest_step_hits
from rairl_lightning.functional.ranking import auroc, resampled_auroc

AREA_RESAMPLES = 500

Bounds = list[float]


@dataclass(frozen=True)
class Resamples:
    """The same resamples of Q questions for every figure, so that differences are paired.

    Attributes:
        questions_N: ``[N]`` int64 in 0..Q-1, the question of each solution.
        counts_RQ: ``[R, Q]``, how often each resample draws each question.
    """

    questions_N: Tensor
    counts_RQ: Tensor

    @classmethod
    def draw(cls, questions_N: Tensor, seed: int) -> Self:
        """Resample the questions that there are."""
        names, numbers_N = questions_N.unique(return_inverse=True)
        return cls(numbers_N, resampled_counts(len(names), generator=torch.Generator().manual_seed(seed)))

    def ratios(self, above_NC: Tensor, below_NC: Tensor) -> tuple[Tensor, Tensor]:
        """C ratios of sums over solutions, ``[C]``, and of each resample, ``[R, C]``; NaN where nothing is below."""
        both = torch.cat([above_NC, below_NC], dim=1).double()
        sums_QC = torch.zeros(self.counts_RQ.shape[1], both.shape[1], dtype=torch.float64)
        sums_QC.index_add_(0, self.questions_N, both)
        above, below = resampled_means(sums_QC, self.counts_RQ).chunk(2, dim=1)
        return both.sum(dim=0)[: above.shape[1]] / both.sum(dim=0)[above.shape[1] :], above / below

    def area(self, scores_NK: Tensor, high_NK: Tensor, kept_NK: Tensor) -> Bounds:
        """AUROC of what is kept: how often one that should be high outscores one that should not."""
        questions_M = self.questions_N.unsqueeze(1).expand_as(kept_NK)[kept_NK]
        scores_M, high_M = scores_NK[kept_NK], high_NK[kept_NK]
        draws_R = resampled_auroc(scores_M, high_M, self.counts_RQ[:AREA_RESAMPLES], questions_M)
        return bounds(auroc(scores_M, high_M), draws_R)


def natural_figures(solutions: ScoredSteps, predicted: dict[str, Tensor], seed: int) -> dict[str, Any]:
    """Figures of each method and constant as ``[value, low, high]``, 95 % by bootstrap over questions.

    Thresholds are those of ``predicted``: the intervals do not hold the doubt about them.

    Args:
        solutions: N of them.
        predicted: by method, ``[N]`` from :func:`~rairl_lightning.evaluation.localisation.natural.cross_fitted`.
        seed: of the resamples.

    Returns:
        Counts; ``f1``, ``accuracy_erroneous`` (the exact step) and ``accuracy_correct`` (none found) of methods and
        constants; the reward's ``f1_gain`` over each other; and what :func:`threshold_free` gives. NaN where a class
        is absent.
    """
    resamples, wrong_N = Resamples.draw(solutions.questions_N, seed), solutions.labels_N >= 0
    classes_NC = torch.stack([wrong_N, ~wrong_N], dim=1)
    hits = {method: (at_N == solutions.labels_N).double() for method, at_N in predicted.items()}
    values, draws = {}, {}
    for method, hit_N in {**hits, **constant_hits(solutions)}.items():
        accuracies_C, draws_RC = resamples.ratios(hit_N.unsqueeze(1) * classes_NC, classes_NC)
        values[method] = torch.cat([harmonic_mean(*accuracies_C[:, None]), accuracies_C])
        draws[method] = torch.cat([harmonic_mean(*draws_RC.T)[:, None], draws_RC], dim=1)
    figures = {
        name: {method: bounds(values[method][column], draws[method][:, column]) for method in values}
        for column, name in enumerate(("f1", "accuracy_erroneous", "accuracy_correct"))
    }
    gains = {
        method: bounds(values["reward"][0] - values[method][0], draws["reward"][:, 0] - draws[method][:, 0])
        for method in values
        if method != "reward"
    }
    counts = {"solutions": len(wrong_N), "erroneous": int(wrong_N.sum()), "questions": resamples.counts_RQ.shape[1]}
    return {**counts, **figures, "f1_gain": gains, **threshold_free(solutions, resamples)}


def threshold_free(solutions: ScoredSteps, resamples: Resamples) -> dict[str, dict[str, Bounds]]:
    """Figures of the scores alone.

    Args:
        solutions: N of them.
        resamples: of their questions.

    Returns:
        ``lowest_step``: Hit@1 of the lowest score on erroneous solutions. ``auroc_steps``: of steps before the first
        wrong one, and of all steps of correct solutions, against the wrong one and those after it. ``auroc_solutions``:
        of correct against erroneous solutions by their lowest step. A solution with a score that is not finite is a
        miss of the first, and left out of the others.
    """
    labels_N, steps_NK = solutions.labels_N, solutions.steps_NK
    wrong_N = labels_N >= 0
    before_NK = (torch.arange(steps_NK.shape[1]) < labels_N.unsqueeze(1)) | ~wrong_N.unsqueeze(1)
    out: dict[str, dict[str, Bounds]] = {"lowest_step": {}, "auroc_steps": {}, "auroc_solutions": {}}
    for method, scores_NK in solutions.scores.items():
        hit_N = torch.zeros_like(labels_N, dtype=torch.float64)
        hit_N[wrong_N] = lowest_step_hits(scores_NK[wrong_N], steps_NK[wrong_N], labels_N[wrong_N])
        values, draws = resamples.ratios(hit_N.unsqueeze(1), wrong_N.unsqueeze(1))
        kept_N1 = ~solutions.broken(method).unsqueeze(1)
        least_N1 = scores_NK.masked_fill(~steps_NK, torch.inf).amin(dim=1, keepdim=True)
        out["lowest_step"][method] = bounds(values[0], draws[:, 0])
        out["auroc_steps"][method] = resamples.area(scores_NK, before_NK, steps_NK & kept_N1)
        out["auroc_solutions"][method] = resamples.area(least_N1, ~wrong_N.unsqueeze(1), kept_N1)
    return out


def bounds(value: Tensor, draws_R: Tensor) -> Bounds:
    """``[value, low, high]``, rounded to 4 digits."""
    return [round(bound, 4) for bound in percentile_interval(value, draws_R)]
