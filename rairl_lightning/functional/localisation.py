"""Where a trace first goes wrong: read-outs of per-token scores, and how often they hit.

A *read-out* turns scores into one column a row, -1 where it points nowhere. A *target* is a bool mask of the tokens
that count as a hit; the interval and step targets are the token target widened to whole segments. The read-outs
work alike on logits of the discriminator (before clipping, which flattens) and, as a baseline, on log-probabilities.
"""

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.grid import reward_grid, segment_ids
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.segments import previous_point


def largest_drop(scores: Tensor, grid: Tensor, completion_mask: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """Grid point whose score fell most below the one before it.

    ``argmax_k (s_{k-1} - s_k)`` with ``s_{-1} = baseline``; the earliest on a tie.

    The first point needs a predecessor, or an error in the first segment could never be found: 0 is what a
    balanced discriminator says before it has read anything, and certainty for a log-probability. A score that is
    flat, or that never falls, points nowhere, which is a miss: so the sparse grid (one point) never points.

    Args:
        scores: ``[N, T]``; what lies off the grid is never read.
        grid: ``[N, T]`` bool, from :func:`~rairl_lightning.functional.grid.reward_grid`.
        completion_mask: ``[N, T]`` bool.
        baseline: score before the first grid point, one number or ``[N]``.

    Returns:
        ``[N]`` int64, a column of ``scores`` or -1.

    Raises:
        DataError: the shapes differ, or a score on the grid is not finite.

    >>> scores = torch.tensor([[2.0, 3.0, -1.0, -2.0]])
    >>> everywhere = torch.ones(1, 4, dtype=torch.bool)
    >>> largest_drop(scores, everywhere, everywhere)
    tensor([2])
    """
    flat = _flat(scores, grid, completion_mask)
    deepest, column = score_drops(scores, grid, completion_mask, baseline).max(dim=1)
    return column.masked_fill(flat | (deepest <= 0), -1)


def score_drops(scores: Tensor, grid: Tensor, completion_mask: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """How far the score of each grid point fell below the one before it: ``s_{k-1} - s_k``, ``s_{-1} = baseline``.

    Args:
        scores: ``[N, T]``; what lies off the grid is never read.
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.
        baseline: score before the first grid point, one number or ``[N]``.

    Returns:
        ``[N, T]``; -inf off the grid.

    Raises:
        DataError: the shapes differ.

    >>> everywhere = torch.ones(1, 3, dtype=torch.bool)
    >>> score_drops(torch.tensor([[1.0, -2.0, -1.0]]), everywhere, everywhere)
    tensor([[-1.,  3., -1.]])
    """
    check_same_shape(scores=scores, grid=grid, completion_mask=completion_mask)
    points = grid & completion_mask
    before = previous_point(points)
    first = torch.as_tensor(baseline, dtype=scores.dtype, device=scores.device).reshape(-1, 1).expand_as(scores)
    previous = torch.where(before >= 0, scores.gather(1, before.clamp(min=0)), first)
    return (previous - scores).masked_fill(~points, -torch.inf)


def _flat(scores: Tensor, grid: Tensor, completion_mask: Tensor) -> Tensor:
    """The rows in which the score is the same at all points of the grid."""
    check_same_shape(scores=scores, grid=grid, completion_mask=completion_mask)
    points = grid & completion_mask
    broken = ~scores.isfinite() & points
    if bool(broken.any()):
        raise DataError("A score on the grid is not finite.", expected="numbers", got=f"{int(broken.sum())} NaN or inf")
    highest = scores.masked_fill(~points, -torch.inf).amax(dim=1)
    lowest = scores.masked_fill(~points, torch.inf).amin(dim=1)
    return highest <= lowest


def span_tokens(char_offsets: Tensor, completion_mask: Tensor, spans: Tensor) -> Tensor:
    """Token target: the completion tokens that overlap a span of characters.

    Args:
        char_offsets: ``[N, T, 2]`` start and end of each token in the completion's text.
        completion_mask: ``[N, T]`` bool.
        spans: ``[N, 2]`` start and end; an empty span (a deletion) stands for the character after it.

    Returns:
        ``[N, T]`` bool.

    Raises:
        DataError: the shapes differ.

    >>> offsets = torch.tensor([[[0, 0], [0, 3], [3, 5], [5, 9]]])
    >>> span_tokens(offsets, torch.tensor([[False, True, True, True]]), torch.tensor([[4, 6]])).int().tolist()
    [[0, 0, 1, 1]]
    """
    check_same_shape(completion_mask=completion_mask, char_offsets=char_offsets[..., 0])
    check_same_shape(char_offsets=char_offsets[:, 0], spans=spans)
    start, stop = spans[:, :1], torch.maximum(spans[:, 1:], spans[:, :1] + 1)
    return completion_mask & (char_offsets[..., 0] < stop) & (char_offsets[..., 1] > start)


def interval_target(tokens: Tensor, completion_mask: Tensor, every: int) -> Tensor:
    """Interval target: all tokens of the n-token intervals that the token target touches.

    Args:
        tokens: ``[N, T]`` bool from :func:`span_tokens`.
        completion_mask: ``[N, T]`` bool.
        every: n >= 1, counted from the first completion token.

    Returns:
        ``[N, T]`` bool.

    Raises:
        ConfigError: ``every`` is below 1.
        DataError: the shapes differ.
    """
    return nearby(tokens, segment_ids(reward_grid(completion_mask, every=every), completion_mask))


def step_target(tokens: Tensor, completion_mask: Tensor, step_ends: Tensor) -> Tensor:
    """Step target: all tokens of the reasoning steps that the token target touches.

    Args:
        tokens: ``[N, T]`` bool from :func:`span_tokens`.
        completion_mask: ``[N, T]`` bool.
        step_ends: ``[N, T]`` bool.

    Returns:
        ``[N, T]`` bool.

    Raises:
        DataError: the shapes differ.
    """
    return nearby(tokens, segment_ids(reward_grid(completion_mask, ends=step_ends), completion_mask))


def nearby(tokens: Tensor, segments: Tensor, within: int = 0) -> Tensor:
    """All tokens of the segments that the token target touches, and of those at most ``within`` segments away.

    Args:
        tokens: ``[N, T]`` bool from :func:`span_tokens`.
        segments: ``[N, T]`` int64 from :func:`~rairl_lightning.functional.grid.segment_ids`: never falling along the
            completion, -1 outside it. Of a dense grid each token is a segment.
        within: >= 0, in segments.

    Returns:
        ``[N, T]`` bool.

    Raises:
        ConfigError: ``within`` is negative.
        DataError: the shapes differ.

    >>> nearby(torch.tensor([[False, True, False, False, False]]), torch.tensor([[0, 0, 1, 1, 2]]), within=1).int()
    tensor([[1, 1, 1, 1, 0]], dtype=torch.int32)
    """
    check_same_shape(segments=segments, tokens=tokens)
    check_number("within", within, at_least=0)
    inside = segments >= 0
    touched, far = tokens & inside, segments.shape[1] + within + 1
    before = segments.masked_fill(~touched, -far).cummax(dim=1).values
    after = segments.masked_fill(~touched, 2 * far).flip(1).cummin(dim=1).values.flip(1)
    return inside & ((segments - before <= within) | (after - segments <= within))


def hits(predicted: Tensor, target: Tensor) -> Tensor:
    """Whether each prediction lies in its target; pointing nowhere is a miss.

    Args:
        predicted: ``[N]`` int64, a column or -1.
        target: ``[N, T]`` bool.

    Returns:
        ``[N]`` bool.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(target=target[:, 0], predicted=predicted)
    return target.gather(1, predicted.clamp(min=0).unsqueeze(1)).squeeze(1) & (predicted >= 0)


def chance(target: Tensor, completion_mask: Tensor) -> Tensor:
    """Exact probability that a uniformly random completion token is a hit.

    Args:
        target: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``[N]`` float64; 0 where there is no completion.

    Raises:
        DataError: the shapes differ.
    """
    return masked_mean(target.double(), completion_mask, dim=1)
