"""Is a probability of being right right as often as it says? Sums per bin, the error they make, and one temperature."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape

BINS = 15
"""Bins of equal width (arXiv 1706.04599)."""
_COLDEST, _HOTTEST = 1e-4, 1e4
_HALVINGS = 80


def reliability_sums(probabilities_M: Tensor, labels_M: Tensor, questions_M: Tensor, bins: int = BINS) -> Tensor:
    """What a reliability curve is made of, for each question, so that questions can be resampled.

    Bin k holds the probabilities in ``[k / K, (k + 1) / K)``, the last one also 1.

    Args:
        probabilities_M: ``[M]`` in [0, 1].
        labels_M: ``[M]`` bool, True is right.
        questions_M: ``[M]`` int64, the question of each trace, 0..Q-1.
        bins: K >= 1.

    Returns:
        ``[Q, K, 3]`` float64: traces, sum of their probabilities, how many of them are right.

    Raises:
        ConfigError: ``bins`` is out of range.
        DataError: the shapes differ.

    >>> reliability_sums(torch.tensor([0.2, 0.9, 1.0]), torch.tensor([False, True, False]), torch.zeros(3).long(), 2)
    tensor([[[1.0000, 0.2000, 0.0000],
             [2.0000, 1.9000, 1.0000]]], dtype=torch.float64)
    """
    check_number("bins", bins, at_least=1)
    check_same_shape(probabilities=probabilities_M, labels=labels_M, questions=questions_M)
    probabilities = probabilities_M.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    bin_M = torch.bucketize(probabilities, edges, right=True)
    count = int(questions_M.max()) + 1 if len(questions_M) else 0
    rows_M3 = torch.stack([torch.ones_like(probabilities), probabilities, labels_M.double()], dim=1)
    sums = rows_M3.new_zeros(count * bins, 3).index_add(0, questions_M * bins + bin_M, rows_M3)
    return sums.reshape(count, bins, 3)


def expected_calibration_error(sums_K3: Tensor) -> Tensor:
    """``Σ_k n_k / n · |mean probability_k - share right_k|`` (arXiv 1706.04599, Eq. 3).

    Args:
        sums_K3: ``[…, K, 3]`` from :func:`reliability_sums`, added up over questions.

    Returns:
        ``[…]`` float64; NaN without a trace.
    """
    return (sums_K3[..., 1] - sums_K3[..., 2]).abs().sum(dim=-1) / sums_K3[..., 0].sum(dim=-1)


def fit_temperature(scores_M: Tensor, labels_M: Tensor) -> float:
    """The temperature τ > 0 under which ``σ(score / τ)`` makes the labels likeliest (arXiv 1706.04599).

    The likelihood is concave in ``1/τ``, so its root is bisected, in [1e-4, 1e4]: scores that separate the labels end
    at the lower bound, scores that rank them the wrong way round at the upper one, where all probabilities are a half.

    Args:
        scores_M: ``[M]`` finite, M >= 1.
        labels_M: ``[M]`` bool.

    Raises:
        DataError: the shapes differ.

    >>> round(fit_temperature(torch.tensor([2.0, 2.0, 2.0, -2.0]), torch.tensor([True, True, False, False])), 3)
    1.82
    """
    check_same_shape(scores=scores_M, labels=labels_M)
    scores, labels = scores_M.double(), labels_M.double()
    low, high = torch.tensor([_COLDEST, _HOTTEST], dtype=torch.float64).log().tolist()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inverse = torch.tensor(-middle, dtype=torch.float64).exp()
        slope = (scores * (torch.sigmoid(scores * inverse) - labels)).sum()  # of the negative log-likelihood in 1/τ
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(torch.tensor((low + high) / 2, dtype=torch.float64).exp())
