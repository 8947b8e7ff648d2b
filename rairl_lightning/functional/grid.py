"""Where the reward is read: one grid function for every granularity, in training, scoring and evaluation alike.

The origin is the first completion token, so neither the prompt's length nor the padding side can shift the phase.
"""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape


def reward_grid(completion_mask: Tensor, *, every: int | None = None, ends: Tensor | None = None) -> Tensor:
    """Mark the tokens at which the reward is read.

    The last completion token always; with ``every`` also completion tokens n, 2n, … (counted from 1); with
    ``ends`` also the given ones. So sparse is neither, dense is ``every=1``, interval is ``every=n`` and step is
    ``ends=step_ends``.

    Args:
        completion_mask: ``[N, T]`` bool.
        every: n >= 1, in tokens.
        ends: ``[N, T]`` bool; what lies outside the completion is ignored.

    Returns:
        ``[N, T]`` bool, a subset of ``completion_mask``; empty only in rows without a completion.

    Raises:
        ConfigError: ``every`` is below 1.
        DataError: the shapes differ.

    >>> mask = torch.tensor([[False, True, True, True, True, True, False]])
    >>> reward_grid(mask).int().tolist()
    [[0, 0, 0, 0, 0, 1, 0]]
    >>> reward_grid(mask, every=2).int().tolist()
    [[0, 0, 1, 0, 1, 1, 0]]
    """
    count = completion_mask.long().cumsum(dim=1)
    grid = completion_mask & (count == completion_mask.sum(dim=1, keepdim=True))
    if every is not None:
        check_number("every", every, at_least=1)
        grid = grid | (completion_mask & (count % every == 0))
    if ends is not None:
        check_same_shape(completion_mask=completion_mask, ends=ends)
        grid = grid | (completion_mask & ends)
    return grid


def segment_ids(grid: Tensor, completion_mask: Tensor) -> Tensor:
    """Number the segments that end at the grid's points.

    Args:
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``[N, T]`` int64: k for the tokens after the (k-1)-th up to and including the k-th grid point (from 0),
        -1 outside the completion.

    Raises:
        DataError: the shapes differ.

    >>> mask = torch.tensor([[False, True, True, True, True, True]])
    >>> segment_ids(reward_grid(mask, every=2), mask).tolist()
    [[-1, 0, 0, 1, 1, 2]]
    """
    check_same_shape(grid=grid, completion_mask=completion_mask)
    points = (grid & completion_mask).long()
    before = points.cumsum(dim=1) - points
    return before.masked_fill(~completion_mask, -1)


def next_point(grid: Tensor, completion_mask: Tensor) -> Tensor:
    """Column of the next grid point at or after each token.

    Args:
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool; points outside it do not count.

    Returns:
        ``[N, T]`` int64; T where no point follows.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(grid=grid, completion_mask=completion_mask)
    width = grid.shape[1]
    columns = torch.arange(width, device=grid.device).expand_as(grid)
    return columns.masked_fill(~(grid & completion_mask), width).flip(1).cummin(dim=1).values.flip(1)


def backfill(values: Tensor, grid: Tensor, completion_mask: Tensor) -> Tensor:
    """Give every completion token the value at the next grid point, itself included.

    ``v̂_t = v_{min{g ∈ grid : g >= t}}``

    Args:
        values: ``[N, T]``; what lies off the grid is never read.
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``[N, T]``; 0 outside the completion, and after the last point of a grid that stops early.

    Raises:
        DataError: the shapes differ.

    >>> mask = torch.tensor([[False, True, True, True]])
    >>> backfill(torch.tensor([[9.0, 9.0, 1.0, 2.0]]), reward_grid(mask, every=2), mask)
    tensor([[0., 1., 1., 2.]])
    """
    check_same_shape(values=values, grid=grid, completion_mask=completion_mask)
    width = values.shape[1]
    following = next_point(grid, completion_mask)
    filled = values.gather(1, following.clamp(max=width - 1))
    return torch.where(completion_mask & (following < width), filled, torch.zeros_like(filled))
