"""From the rewards of a trace to the one number it is ranked by."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rairl_lightning.functional._checks import check_same_shape
from rairl_lightning.functional.masking import masked_sum


def last_value(values: Tensor, grid: Tensor) -> Tensor:
    """The value at the last scored position; the outcome reward of a sparse grid.

    Args:
        values: ``[N, T]``; what lies off the grid is never read.
        grid: ``[N, T]`` bool.

    Returns:
        ``[N]``; 0 where nothing is scored.

    Raises:
        DataError: the shapes differ.

    >>> last_value(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]]))
    tensor([2.])
    """
    check_same_shape(values=values, grid=grid)
    points = grid.long()
    last = grid & (points.flip(1).cumsum(dim=1).flip(1) == 1)
    return masked_sum(values, last, dim=1)


def lowest_value(values: Tensor, grid: Tensor) -> Tensor:
    """The lowest value of the scored positions: a trace is as good as its worst step. As :func:`last_value`.

    >>> lowest_value(torch.tensor([[1.0, 2.0, -9.0]]), torch.tensor([[True, True, False]]))
    tensor([1.])
    """
    check_same_shape(values=values, grid=grid)
    lowest = torch.where(grid, values, torch.inf).amin(dim=1) if values.shape[1] else values.new_zeros(len(values))
    return lowest.masked_fill(~grid.any(dim=1), 0.0)


def log_product(logits: Tensor, grid: Tensor) -> Tensor:
    """Logarithm of the probability that every step is an expert's: ``Σ_{k} log σ(d_k)`` (arXiv 2305.20050).

    Long traces have more factors, hence less: meant for traces of about as many segments. As :func:`last_value`.

    >>> log_product(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)).exp()
    tensor([0.2500])
    """
    return masked_sum(logsigmoid(logits), grid, dim=1)
