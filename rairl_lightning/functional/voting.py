"""The traces of a question vote for its answer, all of them or n of them.

As in :mod:`rairl_lightning.functional.ranking`, ties are averaged and no result depends on the order of the traces,
but for the subsets that are drawn where there are too many to count out.
"""

import math
from itertools import combinations

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_same_shape

SUBSETS = 2000
"""Most subsets of a group that a vote is averaged over: all of them up to here, so many drawn ones beyond."""
_TIE = 1e-6  # relative: float32 weights that are meant to tie differ by less


def subsets(group: int, n: int, seed: int = 0) -> Tensor:
    """The subsets of n of G traces to average a rule over that has no closed form.

    All ``C(G, n)`` if they are at most :data:`SUBSETS` (n = 4 of 16: 1,820), else so many drawn uniformly and
    independently (n = 8 of 16: 12,870 there are), which leaves a standard error of at most 0.012 on one question.

    Args:
        group: G >= 1.
        n: 1..G.
        seed: of the drawn ones; equal arguments give equal subsets.

    Returns:
        ``[S, G]`` bool, n of them True in each row.

    Raises:
        DataError: n is out of range.

    >>> subsets(3, 2).int()
    tensor([[1, 1, 0],
            [1, 0, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    if not 1 <= n <= group:
        raise DataError("A subset needs at least n traces.", expected=f"1 <= n <= {group}", got=n)
    if math.comb(group, n) <= SUBSETS:
        rows = torch.tensor(list(combinations(range(group), n)))
    else:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.rand(SUBSETS, group, generator=generator).argsort(dim=1)[:, :n]
    return torch.zeros(len(rows), group, dtype=torch.bool).scatter_(1, rows, True)


def relative_weights(log_weights_BG: Tensor) -> Tensor:
    """Weights of a vote from their logarithms, relative to the greatest of the group, so that none of it underflows.

    A vote depends on the ratios of weights alone. A weight that is e^745 times smaller than the greatest counts
    nothing, and so do all where the greatest is zero.

    Args:
        log_weights_BG: ``[B, G]``, not +inf; -inf is a weight of zero.

    Returns:
        ``[B, G]`` float64 in [0, 1].

    >>> relative_weights(torch.tensor([[-2000.0, -2001.0, -torch.inf], [-torch.inf, -torch.inf, -torch.inf]]))
    tensor([[1.0000, 0.3679, 0.0000],
            [0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    log_weights = log_weights_BG.double()
    greatest = log_weights.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).min)
    return (log_weights - greatest).exp()


def winning_votes(classes_BG: Tensor, weights_BG: Tensor, members_SG: Tensor | None = None) -> Tensor:
    """The traces that voted for an answer with the greatest total weight.

    Args:
        classes_BG: ``[B, G]`` int64 from :func:`~rairl_lightning.functional.ranking.answer_classes`; -1 does not vote.
        weights_BG: ``[B, G]``, >= 0.
        members_SG: ``[S, G]`` bool, who takes part in each vote; None is one vote of all.

    Returns:
        ``[B, S, G]`` bool.

    Raises:
        DataError: the shapes differ, or a weight is negative or NaN.

    >>> winning_votes(torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.2, 0.3]]))
    tensor([[[ True, False, False]]])
    """
    check_same_shape(classes=classes_BG, weights=weights_BG)
    _check_weights(weights_BG)
    members = _everyone(classes_BG) if members_SG is None else members_SG
    heaviest_BSK = _heaviest(_ballots(classes_BG), weights_BG, members)
    voted = (classes_BG >= 0).unsqueeze(1) & members
    classes_BSG = classes_BG.clamp(min=0).unsqueeze(1).expand(voted.shape)
    return voted & heaviest_BSK.gather(2, classes_BSG)


def weighted_vote(
    classes_BG: Tensor, correct_BG: Tensor, weights_BG: Tensor, members_SG: Tensor | None = None
) -> Tensor:
    """The answer with the greatest total weight; tied answers share the choice.

    For a vote weighted by the learned reward pass :func:`relative_weights` of ``log σ(reward)``, D's probability:
    negative weights would punish an answer for being popular.

    Args:
        classes_BG: ``[B, G]`` int64 from :func:`~rairl_lightning.functional.ranking.answer_classes`; -1 does not vote.
        correct_BG: ``[B, G]`` bool.
        weights_BG: ``[B, G]``, >= 0.
        members_SG: ``[S, G]`` bool, the subsets whose votes are averaged, from :func:`subsets`; None lets all vote.

    Returns:
        ``[B]`` float64; a vote in which nobody votes counts 0.

    Raises:
        DataError: the shapes differ, or a weight is negative or NaN.

    >>> correct = torch.tensor([[True, False, False]])
    >>> weighted_vote(torch.tensor([[0, 1, 1]]), correct, torch.tensor([[0.9, 0.2, 0.3]]))
    tensor([1.], dtype=torch.float64)
    """
    check_same_shape(classes=classes_BG, correct=correct_BG, weights=weights_BG)
    _check_weights(weights_BG)
    members = _everyone(classes_BG) if members_SG is None else members_SG
    ballots_BGK = _ballots(classes_BG)
    heaviest_BSK = _heaviest(ballots_BGK, weights_BG, members)
    voters_BSK = members.double() @ ballots_BGK
    right_BSK = members.double() @ (ballots_BGK * correct_BG.unsqueeze(2)) / voters_BSK.clamp(min=1)
    chosen_BS = (heaviest_BSK * right_BSK).sum(dim=2) / heaviest_BSK.sum(dim=2).clamp(min=1)
    return chosen_BS.mean(dim=1)


def majority_vote(classes_BG: Tensor, correct_BG: Tensor, members_SG: Tensor | None = None) -> Tensor:
    """:func:`weighted_vote` with one vote each, ``[B]`` float64.

    Args:
        classes_BG: ``[B, G]`` int64 from :func:`~rairl_lightning.functional.ranking.answer_classes`; -1 does not vote.
        correct_BG: ``[B, G]`` bool.
        members_SG: ``[S, G]`` bool, the subsets whose votes are averaged; None lets all vote.

    Raises:
        DataError: the shapes differ.
    """
    return weighted_vote(classes_BG, correct_BG, torch.ones_like(classes_BG, dtype=torch.float64), members_SG)


def _everyone(classes_BG: Tensor) -> Tensor:
    return classes_BG.new_ones(1, classes_BG.shape[1], dtype=torch.bool)


def _ballots(classes_BG: Tensor) -> Tensor:
    """``[B, G, K]`` float64, 1 at the answer of each trace that gives one."""
    count = max(0, int(classes_BG.max())) + 1 if classes_BG.numel() else 1
    answers = torch.arange(count, device=classes_BG.device)
    return (classes_BG.unsqueeze(2) == answers).double()


def _heaviest(ballots_BGK: Tensor, weights_BG: Tensor, members_SG: Tensor) -> Tensor:
    """``[B, S, K]`` bool, the answers with the greatest weight of those that a member of the subset gives."""
    members = members_SG.double()
    support_BSK = members @ (ballots_BGK * weights_BG.double().unsqueeze(2))
    given_BSK = members @ ballots_BGK > 0
    return given_BSK & (support_BSK >= support_BSK.amax(dim=2, keepdim=True) * (1 - _TIE))


def _check_weights(weights_BG: Tensor) -> None:
    if not bool((weights_BG >= 0).all()):
        raise DataError(
            "A vote has a negative weight or NaN.",
            expected=">= 0",
            got=float(weights_BG.min()),
            remedy="pass relative_weights(logsigmoid(reward))",
        )
