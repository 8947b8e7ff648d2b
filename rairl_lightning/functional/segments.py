"""Segments between the grid's points: sums over them, and what changed from one to the next."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_same_shape
from rairl_lightning.functional.grid import backfill, next_point


def segment_sum(values: Tensor, grid: Tensor, completion_mask: Tensor) -> Tensor:
    """Sum of each segment, written at the grid point that ends it.

    ``S_k = Σ_{t in segment k} v_t``

    Args:
        values: ``[N, T]``; what lies outside the completion is never read.
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``[N, T]``; 0 off the grid. Tokens after the last point of a grid that stops early belong to no segment.

    Raises:
        DataError: the shapes differ.

    >>> mask, grid = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, True, True]])
    >>> segment_sum(torch.tensor([[1.0, 2.0, 4.0]]), grid, mask)
    tensor([[0., 3., 4.]])
    """
    check_same_shape(values=values, grid=grid, completion_mask=completion_mask)
    kept = torch.where(completion_mask, values, torch.zeros_like(values))
    wide = kept.new_zeros(len(values), values.shape[1] + 1)  # the extra column takes what no point follows
    return wide.scatter_add(1, next_point(grid, completion_mask), kept)[:, :-1]


def segment_mean(values: Tensor, grid: Tensor, completion_mask: Tensor) -> Tensor:
    """Mean of each segment at the grid point that ends it: ``S_k / L_k``. As :func:`segment_sum`."""
    lengths = segment_sum(completion_mask.to(values.dtype), grid, completion_mask)
    return segment_sum(values, grid, completion_mask) / lengths.clamp(min=1)


def previous_point(points: Tensor) -> Tensor:
    """Column of the last point *before* each token.

    Args:
        points: ``[N, T]`` bool.

    Returns:
        ``[N, T]`` int64; -1 where there is none.

    >>> previous_point(torch.tensor([[False, True, False, True]])).tolist()
    [[-1, -1, 1, 1]]
    """
    columns = torch.arange(points.shape[1], device=points.device).expand_as(points)
    latest = columns.masked_fill(~points, -1).cummax(dim=1).values
    return torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], dim=1)


def segment_change(values: Tensor, grid: Tensor, completion_mask: Tensor) -> Tensor:
    """How much the value rose from the previous segment's to this one's, for every token of the segment.

    ``Δ_k = v_k - v_{k-1}``, ``Δ_0 = 0``; not in the paper.

    Args:
        values: ``[N, T]``; read at the grid's points only.
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``[N, T]`` back-filled; 0 outside the completion.

    Raises:
        DataError: the shapes differ.

    >>> mask, grid = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, True, False, True]])
    >>> segment_change(torch.tensor([[9.0, 2.0, 9.0, 1.5]]), grid, mask)
    tensor([[ 0.0000,  0.0000, -0.5000, -0.5000]])
    """
    check_same_shape(values=values, grid=grid, completion_mask=completion_mask)
    previous = previous_point(grid & completion_mask)
    before = torch.where(previous < 0, values, values.gather(1, previous.clamp(min=0)))
    return backfill(values - before, grid, completion_mask)
