"""The first wrong step: predicted by a threshold on step scores, and how often that is right (ProcessBench).

Low scores are bad. A solution of K steps whose first wrong step is ℓ (-1: none) is predicted right exactly where the
threshold lies in ``(low, high]``: above the score of step ℓ, and not above any score before it; without a wrong step,
not above any score at all. So the best threshold is found exactly, by sorting the ends of these intervals.
"""

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_same_shape


def first_below(scores_NK: Tensor, steps_NK: Tensor, thresholds_N: Tensor) -> Tensor:
    """Number of the first step that scores below the threshold.

    Args:
        scores_NK: ``[N, K]``, low is bad; NaN is below nothing.
        steps_NK: ``[N, K]`` bool, which steps there are.
        thresholds_N: ``[N]``.

    Returns:
        ``[N]`` int64; -1 where no step does.

    Raises:
        DataError: the shapes differ.

    >>> everywhere = torch.ones(1, 3, dtype=torch.bool)
    >>> first_below(torch.tensor([[1.0, -1.0, -2.0]]), everywhere, torch.tensor([0.0]))
    tensor([1])
    """
    check_same_shape(scores=scores_NK, steps=steps_NK)
    below = (scores_NK < thresholds_N.unsqueeze(1)) & steps_NK
    return below.long().argmax(dim=1).masked_fill(~below.any(dim=1), -1)


def right_thresholds(scores_NK: Tensor, steps_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """The thresholds t with ``low < t <= high`` for which :func:`first_below` says the label.

    Args:
        scores_NK: ``[N, K]``, low is bad.
        steps_NK: ``[N, K]`` bool, which steps there are.
        labels_N: ``[N]`` int64, first wrong step or -1.

    Returns:
        ``low`` and ``high``, each ``[N]`` float64; both infinite where no threshold is right, such as for a solution
        with a score that is not finite.

    Raises:
        DataError: the shapes differ, or a label names no step.
    """
    check_same_shape(scores=scores_NK, steps=steps_NK)
    _check_labels(steps_NK, labels_N)
    wrong_N, scores = labels_N >= 0, scores_NK.double()
    numbers = torch.arange(scores.shape[1], device=scores.device)
    before = steps_NK & (numbers < labels_N.masked_fill(~wrong_N, scores.shape[1]).unsqueeze(1))
    low = scores.gather(1, labels_N.clamp(min=0).unsqueeze(1)).squeeze(1).masked_fill(~wrong_N, -torch.inf)
    high = scores.masked_fill(~before, torch.inf).amin(dim=1)
    never = ~(low < high) | broken_rows(scores, steps_NK)
    return low.masked_fill(never, torch.inf), high.masked_fill(never, torch.inf)


def accuracy_curve(low_N: Tensor, high_N: Tensor, wrong_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Accuracies of every threshold that makes a difference.

    Args:
        low_N: ``[N]`` from :func:`right_thresholds`.
        high_N: ``[N]`` likewise.
        wrong_N: ``[N]`` bool, whether the solution has a wrong step.

    Returns:
        ``[C]`` rising thresholds, the middle of each piece on which nothing changes, and the accuracy on solutions with
        and without a wrong step, NaN where there are none.

    Raises:
        DataError: the shapes differ.

    >>> low, high = torch.tensor([-1.0, -torch.inf]).double(), torch.tensor([2.0, 0.0]).double()
    >>> accuracy_curve(low, high, torch.tensor([True, False]))[0]
    tensor([-1.0000, -0.5000,  1.0000,  3.0000], dtype=torch.float64)
    """
    check_same_shape(low=low_N, high=high_N, wrong=wrong_N)
    ends = torch.cat([low_N, high_N])
    ends = ends[ends.isfinite()].unique()
    candidates = torch.cat([ends, ends.new_tensor([torch.inf])])

    def accuracy(rows: Tensor) -> Tensor:
        above = torch.searchsorted(low_N[rows].sort().values, candidates)  # intervals that begin below t
        past = torch.searchsorted(high_N[rows].sort().values, candidates)  # of those, the ones that end below it
        return (above - past).double() / rows.sum()

    return _middles(ends), accuracy(wrong_N), accuracy(~wrong_N)


def _middles(ends: Tensor) -> Tensor:
    """A number in each of ``(-inf, e_1]``, ``(e_1, e_2]``, …, ``(e_n, inf]``."""
    if not len(ends):
        return ends.new_zeros(1)
    between = (ends[:-1] + ends[1:]) / 2
    between = torch.where(between > ends[:-1], between, ends[1:])  # neighbours in floating point
    return torch.cat([ends[:1], between, ends[-1:] + 1])


def fit_threshold(low_N: Tensor, high_N: Tensor, wrong_N: Tensor) -> float:
    """The threshold with the highest :func:`harmonic_mean` of both accuracies; the lowest of several.

    Where all solutions, or none, have a wrong step there is no such mean, and the accuracy on those there are counts.

    Args:
        low_N: ``[N]`` from :func:`right_thresholds`, N >= 1.
        high_N: ``[N]`` likewise.
        wrong_N: ``[N]`` bool, whether the solution has a wrong step.

    Raises:
        DataError: the shapes differ, or there is no solution.

    >>> low, high = torch.tensor([-1.0, -torch.inf]).double(), torch.tensor([2.0, 0.0]).double()
    >>> fit_threshold(low, high, torch.tensor([True, False]))
    -0.5
    """
    if not len(low_N):
        raise DataError("There is no solution to fit a threshold on.", expected="at least 1", got=0)
    thresholds, erroneous, correct = accuracy_curve(low_N, high_N, wrong_N)
    both = harmonic_mean(erroneous, correct)
    objective = both.where(~both.isnan(), erroneous.where(~erroneous.isnan(), correct))
    return float(thresholds[objective.argmax()])


def harmonic_mean(first: Tensor, second: Tensor) -> Tensor:
    """``2ab / (a + b)``, ProcessBench's F1 (arXiv 2412.06559) of two accuracies; 0 where both are 0.

    Args:
        first: any shape, >= 0.
        second: the same shape.

    Raises:
        DataError: the shapes differ.

    >>> harmonic_mean(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0]))
    tensor([0.6667, 0.0000])
    """
    check_same_shape(first=first, second=second)
    total = first + second
    return 2 * first * second / total.where(total != 0, 1.0)


def lowest_step_hits(scores_NK: Tensor, steps_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Whether the lowest-scored step is the labelled one; needs no threshold.

    Args:
        scores_NK: ``[N, K]``, low is bad.
        steps_NK: ``[N, K]`` bool, which steps there are.
        labels_N: ``[N]`` int64 >= 0.

    Returns:
        ``[N]`` float64: the expectation where several are lowest; 0 where all steps of several score alike, which
        points nowhere, and where a score is not finite.

    Raises:
        DataError: the shapes differ, or a label names no step.
    """
    check_same_shape(scores=scores_NK, steps=steps_NK)
    _check_labels(steps_NK, labels_N, least=0)
    lowest = scores_NK.masked_fill(~steps_NK, torch.inf).amin(dim=1, keepdim=True)
    ties = (scores_NK == lowest) & steps_NK
    count, tied = steps_NK.sum(dim=1), ties.sum(dim=1)
    flat = (tied == count) & (count > 1)
    hit = ties.gather(1, labels_N.unsqueeze(1)).squeeze(1).double() / tied.clamp(min=1)
    return hit.masked_fill(flat | broken_rows(scores_NK, steps_NK), 0.0)


def broken_rows(scores: Tensor, points: Tensor) -> Tensor:
    """The rows with a score that is not finite, which predict nothing.

    Args:
        scores: ``[N, K]``; what lies off the points is never read.
        points: ``[N, K]`` bool.

    Returns:
        ``[N]`` bool.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(scores=scores, points=points)
    return (~scores.isfinite() & points).any(dim=1)


def _check_labels(steps_NK: Tensor, labels_N: Tensor, least: int = -1) -> None:
    check_same_shape(labels=labels_N, solutions=steps_NK[:, 0])
    named = steps_NK.gather(1, labels_N.clamp(min=0).unsqueeze(1)).squeeze(1) | (labels_N == -1)
    if bool((labels_N < least).any()) or not bool(named.all()):
        raise DataError("A label names no step.", expected=f">= {least}, and a step", got=labels_N.tolist()[:10])
