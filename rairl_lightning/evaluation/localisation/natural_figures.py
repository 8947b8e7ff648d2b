"""What the predictions of the first wrong step are worth: ProcessBench's F1 and figures that need no threshold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rairl_lightning.evaluation.localisation.natural import ScoredSteps, constant_hits
from rairl_lightning.evaluation.resamples import Bounds, Resamples, bounds
from rairl_lightning.functional.first_error import harmonic_mean, lowest_step_hits


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
    hits = {method: (at_N == solutions.labels_N).double() for method, at_N in predicted.items()}
    hits |= constant_hits(solutions)
    hits_NM1, classes_N12 = (
        torch.stack(list(hits.values()), dim=1).unsqueeze(2),
        torch.stack([wrong_N, ~wrong_N], dim=1).unsqueeze(1),
    )
    below_NC = classes_N12.expand(-1, len(hits), -1).flatten(1)
    accuracies_C, draws_RC = resamples.ratios((hits_NM1 * classes_N12).flatten(1), below_NC)
    values = dict(zip(hits, _with_f1(accuracies_C.reshape(1, -1, 2))[0], strict=True))
    draws = dict(zip(hits, _with_f1(draws_RC.unflatten(1, (-1, 2))).unbind(dim=1), strict=True))
    figures = {
        name: {method: bounds(values[method][column], draws[method][:, column]) for method in values}
        for column, name in enumerate(("f1", "accuracy_erroneous", "accuracy_correct"))
    }
    gains = {
        method: bounds(values["reward"][0] - values[method][0], draws["reward"][:, 0] - draws[method][:, 0])
        for method in values
        if method != "reward"
    }
    counts = {"solutions": len(wrong_N), "erroneous": int(wrong_N.sum()), "questions": resamples.questions}
    return {**counts, **figures, "f1_gain": gains, **threshold_free(solutions, resamples)}


def threshold_free(solutions: ScoredSteps, resamples: Resamples) -> dict[str, dict[str, Bounds]]:
    """Figures of the scores alone.

    Args:
        solutions: N of them.
        resamples: of their questions.

    Returns:
        ``lowest_step``: Hit@1 of the lowest score on erroneous solutions. ``auroc_steps``: of steps before the first
        wrong one, and of all steps of correct solutions, against the wrong one and those after it. ``auroc_solutions``:
        of correct against erroneous solutions by their lowest step. ``random`` is exact: a step at random, and a half.
        A solution with a score that is not finite is a miss of the first, and left out of the others.
    """
    labels_N, steps_NK = solutions.labels_N, solutions.steps_NK
    wrong_N = labels_N >= 0
    before_NK = (torch.arange(steps_NK.shape[1]) < labels_N.unsqueeze(1)) | ~wrong_N.unsqueeze(1)
    hits = {}
    areas: dict[str, dict[str, Bounds]] = {"auroc_steps": {}, "auroc_solutions": {}}
    for method, scores_NK in solutions.scores.items():
        hits[method] = torch.zeros(len(labels_N), dtype=torch.float64)
        hits[method][wrong_N] = lowest_step_hits(scores_NK[wrong_N], steps_NK[wrong_N], labels_N[wrong_N])
        kept_N1 = ~solutions.broken(method).unsqueeze(1)
        least_N1 = scores_NK.masked_fill(~steps_NK, torch.inf).amin(dim=1, keepdim=True)
        areas["auroc_steps"][method] = resamples.area(scores_NK, before_NK, steps_NK & kept_N1)
        areas["auroc_solutions"][method] = resamples.area(least_N1, ~wrong_N.unsqueeze(1), kept_N1)
    hits["random"] = wrong_N / steps_NK.sum(dim=1)
    values_M, draws_RM = resamples.ratios(
        torch.stack(list(hits.values()), dim=1), wrong_N[:, None].expand(-1, len(hits))
    )
    lowest = {method: bounds(values_M[column], draws_RM[:, column]) for column, method in enumerate(hits)}
    return {"lowest_step": lowest, **{name: {**own, "random": [0.5] * 3} for name, own in areas.items()}}


def _with_f1(accuracies: Tensor) -> Tensor:
    """F1, then the accuracies on erroneous and on correct solutions, ``[…, 3]``."""
    return torch.cat([harmonic_mean(accuracies[..., :1], accuracies[..., 1:]), accuracies], dim=-1)
