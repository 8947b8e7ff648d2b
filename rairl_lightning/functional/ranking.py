"""Choosing among the G traces of a question, and what the choice is worth.

Every rule returns one value a question, the probability that its choice is right: ties are averaged, not broken by
position, so no result depends on the order of the samples.
"""

import math
from collections.abc import Callable, Sequence
from operator import eq

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_same_shape

_BLOCK = 2**18  # weights of resampled traces that are held at once


def pass_at_k(n: int, c: Tensor | int, k: int) -> Tensor:
    """Unbiased probability that one of k samples is right.

    ``1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1..n} (1 - k/i)`` (arXiv 2107.03374), summed as logarithms.

    Args:
        n: samples of each question.
        c: ``[B]`` right samples of each question, 0..n.
        k: 1..n.

    Returns:
        ``[B]`` float64.

    Raises:
        DataError: k or c is out of range; there is no unbiased estimate for k > n.

    >>> pass_at_k(4, torch.tensor([0, 1, 3]), 2)
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    right = torch.as_tensor(c)
    if not 1 <= k <= n:
        raise DataError("pass@k needs at least k samples.", expected=f"1 <= k <= {n}", got=k, remedy="sample more")
    if bool(((right < 0) | (right > n)).any()):
        raise DataError("The number of right samples is impossible.", expected=f"0..{n}", got=right.tolist())
    i = torch.arange(n, k - 1, -1, dtype=torch.float64, device=right.device)
    log_all_wrong = torch.cat([i.new_zeros(1), torch.log1p(-k / i).cumsum(dim=0)])
    return 0 - torch.expm1(log_all_wrong[right.clamp(max=n - k + 1)])


def random_choice(correct_BG: Tensor) -> Tensor:
    """Exact expectation of a uniformly random choice, ``[B]`` float64.

    Args:
        correct_BG: ``[B, G]`` bool.
    """
    return correct_BG.double().mean(dim=1)


def oracle(correct_BG: Tensor) -> Tensor:
    """1 where any trace is right, ``[B]`` float64: no rule can do better.

    Args:
        correct_BG: ``[B, G]`` bool.
    """
    return correct_BG.any(dim=1).double()


def best_index(scores_BG: Tensor) -> Tensor:
    """The first of the best-scored traces, ``[B]`` int64: for showing one; :func:`best_of_n` says what it is worth.

    Args:
        scores_BG: ``[B, G]``.

    Raises:
        DataError: a score is NaN.
    """
    _check_scores(scores_BG)
    return scores_BG.argmax(dim=1)


def best_of_n(scores_BG: Tensor, correct_BG: Tensor, n: int | None = None) -> Tensor:
    """Exact expectation of taking the best-scored of n traces drawn from G without replacement.

    ``Σ_r C(G-r, n-1) / C(G, n) · c̄_r`` over ranks r = 1..G, where c̄ is the mean of ``correct`` over the traces
    that tie with rank r. Not in the paper: ``n = G`` is its Best-of-N, ``n = 1`` the random choice.

    Args:
        scores_BG: ``[B, G]``, high is good.
        correct_BG: ``[B, G]`` bool.
        n: 1..G; ``None`` means G.

    Returns:
        ``[B]`` float64.

    Raises:
        DataError: the shapes differ, a score is NaN, or n is out of range.

    >>> best_of_n(torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([[True, True, False]]))
    tensor([0.5000], dtype=torch.float64)
    """
    check_same_shape(scores=scores_BG, correct=correct_BG)
    _check_scores(scores_BG)
    group = scores_BG.shape[1]
    n = group if n is None else n
    if not 1 <= n <= group:
        raise DataError("Best-of-n needs at least n traces.", expected=f"1 <= n <= {group}", got=n)
    ranked, order = scores_BG.sort(dim=1, descending=True)
    ties_BGG = (ranked.unsqueeze(2) == ranked.unsqueeze(1)).double()
    right = (ties_BGG @ correct_BG.gather(1, order).double().unsqueeze(2)).squeeze(2) / ties_BGG.sum(dim=2)
    chances = [math.comb(group - rank, n - 1) / math.comb(group, n) for rank in range(1, group + 1)]
    return right @ right.new_tensor(chances)


def answer_classes(answers: Sequence[str | None], agree: Callable[[str, str], bool] = eq) -> list[int]:
    """Number the distinct answers in order of appearance; -1 for no answer.

    Args:
        answers: the answers of one question's traces.
        agree: whether two answers are the same; asked of each class's first member.

    Returns:
        One class a trace.

    >>> answer_classes(["5", None, "7", "5"])
    [0, -1, 1, 0]
    """
    members: list[str] = []
    classes = []
    for answer in answers:
        if answer is None:
            classes.append(-1)
            continue
        found = next((k for k, member in enumerate(members) if agree(member, answer)), len(members))
        if found == len(members):
            members.append(answer)
        classes.append(found)
    return classes


def auroc(scores_M: Tensor, labels_M: Tensor) -> Tensor:
    """Probability that a positive outscores a negative, ties half: ``P(s⁺ > s⁻) + ½ P(s⁺ = s⁻)``.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool, True is positive.

    Returns:
        A float64 scalar; NaN where a class is absent, since there is nothing to rank.

    Raises:
        DataError: the shapes differ, or a score is NaN.

    >>> auroc(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, False, True, True]))
    tensor(0.8750, dtype=torch.float64)
    """
    check_same_shape(scores=scores_M, labels=labels_M)
    _check_scores(scores_M)
    positive, negative = scores_M[labels_M], scores_M[~labels_M].sort().values
    below = torch.searchsorted(negative, positive, right=False)
    not_above = torch.searchsorted(negative, positive, right=True)
    return (below + not_above).double().mean() / (2 * len(negative))


def grouped_auroc(scores_M: Tensor, labels_M: Tensor, groups_M: Tensor) -> Tensor:
    """:func:`auroc` over the pairs within a group alone: what is left when groups differ in difficulty.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool, True is positive.
        groups_M: ``[M]`` int64; negative belongs to no group.

    Returns:
        A float64 scalar; NaN where no group has both classes.

    Raises:
        DataError: the shapes differ, or a score is NaN.

    >>> labels = torch.tensor([True, False, True, False])
    >>> grouped_auroc(torch.tensor([0.2, 0.1, 0.9, 0.8]), labels, torch.tensor([0, 0, 1, 1]))
    tensor(1., dtype=torch.float64)
    """
    wins_Q, pairs_Q = grouped_wins(scores_M, labels_M, groups_M)
    return wins_Q.sum() / pairs_Q.sum()


def grouped_wins(scores_M: Tensor, labels_M: Tensor, groups_M: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`grouped_auroc` is the ratio of, in ``O(M log M)`` time and ``O(M)`` memory.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool, True is positive.
        groups_M: ``[M]`` int64; negative belongs to no group.

    Returns:
        For each of the Q groups, smallest number first: ``[Q]`` float64 pairs that the positive wins, ties half, and
        ``[Q]`` float64 pairs of a positive and a negative.

    Raises:
        DataError: the shapes differ, or a score is NaN.

    >>> labels = torch.tensor([True, False, True, True])
    >>> grouped_wins(torch.tensor([0.2, 0.2, 0.9, 0.8]), labels, torch.tensor([4, 4, 4, 7]))
    (tensor([1.5000, 0.0000], dtype=torch.float64), tensor([2., 0.], dtype=torch.float64))
    """
    check_same_shape(scores=scores_M, labels=labels_M, groups=groups_M)
    _check_scores(scores_M)
    grouped = groups_M >= 0
    label_M = labels_M[grouped]
    names_Q, group_M = groups_M[grouped].unique(return_inverse=True)
    values, place_M = scores_M[grouped].unique(return_inverse=True)
    # A run is what ties within a group; runs are in the order of their group, then of their score.
    keys_R, run_M = (group_M * len(values) + place_M).unique(return_inverse=True)
    group_R = keys_R // max(1, len(values))

    def per_run(chosen_M: Tensor) -> Tensor:
        return torch.bincount(run_M[chosen_M], minlength=len(keys_R)).double()

    def per_group(values_R: Tensor) -> Tensor:
        return values_R.new_zeros(len(names_Q)).index_add(0, group_R, values_R)

    positive_R, negative_R = per_run(label_M), per_run(~label_M)
    negative_Q = per_group(negative_R)
    before_group_Q = negative_Q.cumsum(0) - negative_Q
    below_R = negative_R.cumsum(0) - negative_R - before_group_Q[group_R]
    return per_group(positive_R * (below_R + negative_R / 2)), per_group(positive_R) * negative_Q


def resampled_auroc(scores_M: Tensor, labels_M: Tensor, counts_RQ: Tensor, questions_M: Tensor) -> Tensor:
    """:func:`auroc` of resamples of questions, each with all of its traces; the scores are sorted once.

    Args:
        scores_M: ``[M]``.
        labels_M: ``[M]`` bool, True is positive.
        counts_RQ: ``[R, Q]``, how often each resample draws each question.
        questions_M: ``[M]`` int64, the question of each trace, 0..Q-1.

    Returns:
        ``[R]`` float64; NaN where a resample lacks a class.

    Raises:
        DataError: the shapes differ, or a score is NaN.

    >>> scores, labels = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, False, True, True])
    >>> resampled_auroc(scores, labels, torch.tensor([[1, 1], [2, 0]]), torch.tensor([0, 0, 0, 1]))
    tensor([0.8750, 0.7500], dtype=torch.float64)
    """
    check_same_shape(scores=scores_M, labels=labels_M, questions=questions_M)
    _check_scores(scores_M)
    values, run_M = scores_M.unique(return_inverse=True)
    sides = [(questions_M[side], run_M[side]) for side in (labels_M, ~labels_M)]
    areas = []
    for counts_rQ in counts_RQ.split(max(1, _BLOCK // max(1, len(scores_M)))):
        zero = torch.zeros(len(counts_rQ), len(values), dtype=torch.float64)
        weights = [(counts_rQ[:, question].double(), run.expand(len(counts_rQ), -1)) for question, run in sides]
        positive, negative = (zero.scatter_add(1, run, weight) for weight, run in weights)
        below = negative.cumsum(dim=1) - negative
        areas.append((positive * (below + negative / 2)).sum(dim=1) / (positive.sum(dim=1) * negative.sum(dim=1)))
    return torch.cat(areas) if areas else scores_M.new_zeros(0, dtype=torch.float64)


def _check_scores(scores: Tensor) -> None:
    if bool(scores.isnan().any()):
        raise DataError(
            "A score is NaN.", expected="numbers", got=f"{int(scores.isnan().sum())} NaN of {scores.numel()}"
        )
