"""How well one number tells two classes apart, and how sure that is when traces of one prompt are not independent."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.ranking import auroc

_HALVINGS = 40


class Separation(NamedTuple):
    """An area under the ROC curve with a lower bound.

    Attributes:
        auroc: probability that a positive outscores a negative, ties half.
        low: one-sided lower bound of it, 0 where a class has fewer than two clusters.
    """

    auroc: float
    low: float


def bounded_auroc(scores_M: Tensor, labels_M: Tensor, clusters_M: Tensor, level: float = 0.99) -> Separation:
    """AUROC with a lower bound that holds where rows come in clusters.

    The smaller of ``A - z · se``, with DeLong's standard error for clustered rows (Obuchowski 1997), and of
    :func:`score_bound` with clusters for rows, which does not shrink to nothing where the classes do not overlap.
    Not in the paper.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool, True is positive.
        clusters_M: ``[M]`` int64 >= 0; rows of one cluster (prompt) may depend on each other, of both classes.
        level: of the one-sided bound, in (0.5, 1).

    Returns:
        The area and its bound; both NaN where a class is absent.

    Raises:
        ConfigError: ``level`` is out of range.
        DataError: the shapes differ, or a score is NaN.

    >>> rows = torch.arange(40)
    >>> area, low = bounded_auroc(rows, rows >= 20, rows)
    >>> area, round(low, 2)
    (1.0, 0.86)
    """
    check_number("level", level, above=0.5, below=1)
    check_same_shape(scores=scores_M, clusters=clusters_M)
    area = float(auroc(scores_M, labels_M))
    if math.isnan(area):
        return Separation(area, area)
    first, second = (len(clusters_M[side].unique()) for side in (labels_M, ~labels_M))
    if min(first, second) < 2:
        return Separation(area, 0.0)
    z = float(torch.special.ndtri(torch.tensor(level, dtype=torch.float64)))
    delong = area - z * math.sqrt(clustered_variance(scores_M, labels_M, clusters_M))
    return Separation(area, max(0.0, min(delong, score_bound(area, first, second, z))))


def clustered_variance(scores_M: Tensor, labels_M: Tensor, clusters_M: Tensor) -> float:
    """Variance of the AUROC (Obuchowski 1997, the multi-cluster form of DeLong et al. 1988).

    With the placements ``V_i = P(s_i > s⁻) + ½ P(s_i = s⁻)`` of the m positives, likewise those of the n negatives, and
    ``D⁺_c = Σ_{i in c} (V_i - A) / m`` and ``D⁻_c`` of each cluster:
    ``I⁺/(I⁺-1) Σ D⁺² + I⁻/(I⁻-1) Σ D⁻² + 2 I/(I-1) Σ D⁺ D⁻``, where I⁺, I⁻ and I count clusters.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool; both classes are there, in two clusters or more each.
        clusters_M: ``[M]`` int64 >= 0.
    """
    positive, negative = scores_M[labels_M], scores_M[~labels_M]
    places_M = torch.empty(len(scores_M), dtype=torch.float64)
    places_M[labels_M] = _placements(positive, negative)
    places_M[~labels_M] = 1 - _placements(negative, positive)
    _, index_M = clusters_M.unique(return_inverse=True)
    count = int(index_M.max()) + 1
    deviations, weights = [], []
    for side in (labels_M, ~labels_M):
        centred = (places_M[side] - places_M[side].mean()) / int(side.sum())
        deviations.append(centred.new_zeros(count).index_add(0, index_M[side], centred))
        present = len(index_M[side].unique())
        weights.append(present / (present - 1))
    above, below = deviations
    total = weights[0] * above.square().sum() + weights[1] * below.square().sum()
    return max(0.0, float(total + 2 * count / (count - 1) * (above * below).sum()))


def score_bound(area: float, positives: int, negatives: int, z: float) -> float:
    """The smallest area θ in [0.5, A] that A does not rule out: ``A <= θ + z · se(θ)`` (Newcombe 2006).

    The standard error is Hanley's and McNeil's (1982): ``se² = (θ(1-θ) + (m-1)(Q₁-θ²) + (n-1)(Q₂-θ²)) / (mn)`` with
    ``Q₁ = θ/(2-θ)`` and ``Q₂ = 2θ²/(1+θ)``. It is taken at the bound, so that ``A = 1`` is not taken for certain.

    Args:
        area: A, in [0, 1].
        positives: m, independent ones, >= 1.
        negatives: n, likewise.
        z: quantile of the normal distribution.

    Returns:
        θ; 0.5 or A, whichever is smaller, where no area above 0.5 is ruled out.

    >>> round(score_bound(1.0, 16, 16, 2.326), 3), round(score_bound(0.9, 16, 16, 2.326), 3)
    (0.825, 0.678)
    """

    def reaches(theta: float) -> bool:
        first, second = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        spread = theta * (1 - theta) + (positives - 1) * (first - theta**2) + (negatives - 1) * (second - theta**2)
        return theta + z * math.sqrt(max(0.0, spread) / (positives * negatives)) >= area

    if area <= 0.5 or reaches(0.5):
        return min(area, 0.5)
    low, high = 0.5, area
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _placements(ours: Tensor, theirs: Tensor) -> Tensor:
    """Share of ``theirs`` below each of ``ours``, ties half."""
    ordered = theirs.sort().values
    ranks = torch.searchsorted(ordered, ours, right=False) + torch.searchsorted(ordered, ours, right=True)
    return ranks.double() / (2 * len(theirs))
