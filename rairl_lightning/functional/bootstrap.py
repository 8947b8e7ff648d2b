"""How sure a mean over questions is: percentile bootstrap, alone and paired."""

from typing import NamedTuple

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape


class ConfidenceInterval(NamedTuple):
    """A mean with its bootstrap interval.

    Attributes:
        mean: of the values as given.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values_B: Tensor, *, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> ConfidenceInterval:
    """Percentile interval of the mean, resampling questions (Efron 1979).

    Args:
        values_B: ``[B]``, one value a question; samples of one question are not independent, so average them first.
        generator: where the randomness comes from, a CPU generator.
        level: in (0, 1).
        resamples: >= 1.

    Returns:
        The mean and the ``(1 ± level) / 2`` quantiles of the resampled means.

    Raises:
        ConfigError: ``level`` or ``resamples`` is out of range.
        DataError: there is no question, or a value is NaN.

    >>> bootstrap_interval(torch.ones(3), generator=torch.Generator().manual_seed(0))
    ConfidenceInterval(mean=1.0, low=1.0, high=1.0)
    """
    check_number("level", level, above=0, below=1)
    check_number("resamples", resamples, at_least=1)
    values = values_B.detach().double().cpu()
    if values.dim() != 1 or not len(values) or bool(values.isnan().any()):
        raise DataError(
            "These values cannot be bootstrapped.",
            expected="[B] numbers, B >= 1",
            got=f"shape {tuple(values.shape)}, {int(values.isnan().sum())} NaN",
        )
    count = len(values)
    # One resample at a time: all at once would hold resamples · B indices.
    draws = (torch.randint(count, (count,), generator=generator) for _ in range(resamples))
    means = torch.stack([values[rows].mean() for rows in draws])
    low, high = means.quantile(means.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return ConfidenceInterval(float(values.mean()), low, high)


def paired_bootstrap(
    values_B: Tensor, baseline_B: Tensor, *, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> ConfidenceInterval:
    """:func:`bootstrap_interval` of the gain over a baseline on the same questions.

    Args:
        values_B: ``[B]``, one value a question.
        baseline_B: ``[B]``, the same questions in the same order.
        generator: a CPU generator.
        level: in (0, 1).
        resamples: >= 1.

    Returns:
        Mean and interval of ``values - baseline``; a gain is shown where ``low`` > 0.

    Raises:
        ConfigError: ``level`` or ``resamples`` is out of range.
        DataError: the shapes differ, there is no question, or a value is NaN.
    """
    check_same_shape(values=values_B, baseline=baseline_B)
    return bootstrap_interval(
        values_B.double() - baseline_B.double(), generator=generator, level=level, resamples=resamples
    )
