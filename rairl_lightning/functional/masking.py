"""Reductions over a boolean mask that names what counts, so that nothing is ever inferred from a value.

What is masked out may hold anything, NaN included: it is replaced before it is added, not multiplied by zero.
"""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_same_shape


def masked_sum(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum where the mask is True.

    Args:
        values: any shape.
        mask: bool, the same shape; True counts.
        dim: axis to reduce; ``None`` reduces all.

    Returns:
        The sum, without axis ``dim``; 0 where nothing counts.

    Raises:
        DataError: the shapes differ.

    >>> masked_sum(torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([True, True, False]))
    tensor(3.)
    """
    check_same_shape(values=values, mask=mask)
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean where the mask is True; 0, not NaN, where nothing counts. Arguments as :func:`masked_sum`.

    Raises:
        DataError: the shapes differ.

    >>> masked_mean(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), torch.tensor([[True, True], [True, False]]), dim=1)
    tensor([2., 5.])
    """
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(values, mask, dim) / count.clamp(min=1)
