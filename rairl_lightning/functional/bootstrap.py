"""How sure a figure over questions is: percentile bootstrap (Efron 1979), alone and paired."""

from typing import NamedTuple

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape


class ConfidenceInterval(NamedTuple):
    """A mean, or another figure, with its bootstrap interval.

    Attributes:
        mean: of the values as given; the figure itself where it is no mean.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values_B: Tensor, *, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> ConfidenceInterval:
    """Percentile interval of the mean, resampling questions.

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
    values = values_B.detach().double().cpu()
    if values.dim() != 1 or not len(values) or bool(values.isnan().any()):
        raise DataError(
            "These values cannot be bootstrapped.",
            expected="[B] numbers, B >= 1",
            got=f"shape {tuple(values.shape)}, {int(values.isnan().sum())} NaN",
        )
    counts_RB = resampled_counts(len(values), generator=generator, resamples=resamples)
    return percentile_interval(values.mean(), resampled_means(values[:, None], counts_RB)[:, 0], level)


def resampled_counts(count: int, *, generator: torch.Generator, resamples: int = 2000) -> Tensor:
    """How often each resample draws each question.

    Figures that share the counts are paired.

    Args:
        count: B >= 1 questions.
        generator: a CPU generator.
        resamples: R >= 1.

    Returns:
        ``[R, B]`` int32, each row adding up to B.

    Raises:
        ConfigError: ``count`` or ``resamples`` is out of range.
    """
    check_number("count", count, at_least=1)
    check_number("resamples", resamples, at_least=1)
    counts_RB = torch.zeros(resamples, count, dtype=torch.int32)
    for part in counts_RB.split(_at_once(count)):  # a draw is eight bytes, a count four
        drawn = torch.randint(count, part.shape, generator=generator)
        part.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.int32))
    return counts_RB


def resampled_means(values_BC: Tensor, counts_RB: Tensor) -> Tensor:
    """Means of several figures over each resample.

    Args:
        values_BC: ``[B, C]``, C values a question.
        counts_RB: ``[R, B]`` from :func:`resampled_counts`.

    Returns:
        ``[R, C]`` float64.

    >>> resampled_means(torch.tensor([[1.0], [3.0]]), torch.tensor([[1, 1], [0, 2]]))
    tensor([[2.],
            [3.]], dtype=torch.float64)
    """
    values = values_BC.double()
    return torch.cat([part.double() @ values for part in counts_RB.split(_at_once(len(values)))]) / len(values)


def percentile_interval(value: Tensor, draws_R: Tensor, level: float = 0.95) -> ConfidenceInterval:
    """The ``(1 ± level) / 2`` quantiles of a figure's resamples.

    Args:
        value: the figure of all questions, a scalar.
        draws_R: ``[R]`` the same of each resample; NaN, where a resample has no figure, is left out.
        level: in (0, 1).

    Raises:
        ConfigError: ``level`` is out of range.

    >>> percentile_interval(torch.tensor(2.0), torch.arange(5.0), level=0.5)
    ConfidenceInterval(mean=2.0, low=1.0, high=3.0)
    """
    check_number("level", level, above=0, below=1)
    draws = draws_R.double()
    low, high = draws.nanquantile(draws.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return ConfidenceInterval(float(value), low, high)


def basic_interval(value: Tensor, draws_R: Tensor, level: float = 0.95) -> ConfidenceInterval:
    """The percentile interval reflected at the figure: ``[2 v - high, 2 v - low]`` (Davison and Hinkley 1997, §5.2).

    For a figure that resampling raises, such as a mean of absolute differences, whose percentile interval lies above
    it and may not even hold it.

    Args:
        value: the figure of all questions, a scalar.
        draws_R: ``[R]`` the same of each resample; NaN, where a resample has no figure, is left out.
        level: in (0, 1).

    Raises:
        ConfigError: ``level`` is out of range.

    >>> basic_interval(torch.tensor(2.0), torch.tensor([2.0, 3.0, 4.0]), level=0.5)
    ConfidenceInterval(mean=2.0, low=0.5, high=1.5)
    """
    mean, low, high = percentile_interval(value, draws_R, level)
    return ConfidenceInterval(mean, 2 * mean - high, 2 * mean - low)


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


def _at_once(questions: int) -> int:
    """So many resamples that their draws are some megabytes."""
    return max(1, 2**20 // questions)
