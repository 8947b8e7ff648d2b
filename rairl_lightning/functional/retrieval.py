"""How high the right units of a trace are ranked: reciprocal rank and average precision, ties in expectation.

A *unit* is what may be pointed at (a token, an interval, a step). Units that tie come in any order, so each figure is
the exact mean over the orders of the ties; where everything ties it is that of a random order, hence chance.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_same_shape


def greatest_of_units(values: Tensor, units: Tensor) -> Tensor:
    """The greatest value of each unit.

    Args:
        values: ``[N, T]``, numbers or bool (then: whether any is True).
        units: ``[N, T]`` int64, number of each token's unit, -1 for none.

    Returns:
        ``[N, K]`` in the order of the numbers; -inf (False) where a row has no such unit.

    Raises:
        DataError: the shapes differ.

    >>> greatest_of_units(torch.tensor([[9.0, 1.0, 3.0, 2.0]]), torch.tensor([[-1, 0, 0, 1]]))
    tensor([[3., 2.]])
    """
    check_same_shape(values=values, units=units)
    if values.dtype == torch.bool:
        return greatest_of_units(values.float(), units) > 0
    count = int(units.max()) + 1 if units.numel() else 0
    nothing = values.new_full((len(values), count), -torch.inf)
    inside = units >= 0
    if not count:
        return nothing
    return nothing.scatter_reduce(1, units.clamp(min=0), values.masked_fill(~inside, -torch.inf), "amax")


def reciprocal_rank(scores: Tensor, relevant: Tensor) -> Tensor:
    """``1 / rank`` of the highest-ranked relevant unit; its mean over traces is the MRR.

    Args:
        scores: ``[N, K]``, high is ranked first; -inf is not ranked.
        relevant: ``[N, K]`` bool.

    Returns:
        ``[N]`` float64; 0 where no relevant unit is ranked.

    Raises:
        DataError: the shapes differ.

    >>> reciprocal_rank(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[False, True, True]]))
    tensor([0.5000], dtype=torch.float64)
    """
    ties = _ties(scores, relevant)
    first = (ties.before == 0) & (ties.relevant > 0)
    left = ties.size - ties.place  # units of the group that come at this place or later
    missed = torch.where(first, ((left - ties.relevant) / left).clamp(min=0), 1.0).cumprod(dim=1)
    missed_before = torch.cat([torch.ones_like(missed[:, :1]), missed[:, :-1]], dim=1)
    chances = torch.where(first, missed_before * (ties.relevant / left).clamp(max=1), 0.0)
    return (chances / _ranks(scores)).sum(dim=1)


def average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    """Mean, over the relevant units, of the share of relevant ones down to each; its mean over traces is the MAP.

    Ties as McSherry and Najork (2008): the unit at place j of a group of g, of which r are relevant, follows
    ``(j - 1)(r - 1) / (g - 1)`` relevant ones of its group in expectation, if it is relevant itself.

    Args:
        scores: ``[N, K]``, high is ranked first; -inf is not ranked, and a relevant unit there brings 0.
        relevant: ``[N, K]`` bool.

    Returns:
        ``[N]`` float64; 0 where nothing is relevant.

    Raises:
        DataError: the shapes differ.

    >>> average_precision(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, False, True]]))
    tensor([0.8333], dtype=torch.float64)
    """
    ties = _ties(scores, relevant)
    others = ties.place * (ties.relevant - 1) / (ties.size - 1).clamp(min=1)
    precision = (ties.before + 1 + others) / _ranks(scores)
    found = (ties.relevant / ties.size * precision).sum(dim=1)
    return found / relevant.sum(dim=1).clamp(min=1)


class _Ties(NamedTuple):
    """Of each rank ``[N, K]`` float64: its group of tied units.

    Attributes:
        size: units of the group.
        relevant: relevant ones of the group.
        before: relevant units of the groups above.
        place: ranks of the group above this one.
    """

    size: Tensor
    relevant: Tensor
    before: Tensor
    place: Tensor


def _ties(scores: Tensor, relevant: Tensor) -> _Ties:
    check_same_shape(scores=scores, relevant=relevant)
    ranked, order = scores.sort(dim=1, descending=True)
    right = (relevant & (scores > -torch.inf)).gather(1, order).double()
    opens = torch.ones_like(ranked, dtype=torch.bool)
    opens[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    group = opens.long().cumsum(dim=1) - 1
    start = _ranks(scores).mul(opens).cummax(dim=1).values - 1

    def summed(values: Tensor) -> Tensor:
        return torch.zeros_like(right).scatter_add(1, group, values).gather(1, group)

    before = (right.cumsum(dim=1) - right).gather(1, start.long())
    return _Ties(summed(torch.ones_like(right)), summed(right), before, _ranks(scores) - 1 - start)


def _ranks(scores: Tensor) -> Tensor:
    """1, 2, … of each column, ``[N, K]`` float64."""
    return torch.arange(1, scores.shape[1] + 1, dtype=torch.float64, device=scores.device).expand_as(scores)
