"""The discriminator's other objectives: Wasserstein, hinge, pairwise, and the entropy of what it says."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.masking import masked_mean, masked_sum


def weighted_grid_sum(losses: Tensor, grid: Tensor, weights: Tensor) -> Tensor:
    """``Σ_n w_n Σ_{t in grid} l_nt``: share of one micro-batch, whose weights were computed over the whole update.

    Args:
        losses: ``[N, T]``; what lies off the grid is never read.
        grid: ``[N, T]`` bool, scored positions.
        weights: ``[N]``.

    Returns:
        A scalar.

    Raises:
        DataError: the shapes differ.
    """
    return (weights * masked_sum(losses, grid, dim=1)).sum()


def class_shares(labels_expert_is_one: Tensor, expert_share: float) -> Tensor:
    """Factor on a trace's weight when experts are to carry another share than one half.

    ``2 p`` for positives, ``2 (1 - p)`` for negatives; not in the paper.

    Args:
        labels_expert_is_one: ``[N]`` bool.
        expert_share: p in (0, 1).

    Returns:
        ``[N]`` float32; ones for p = ½.

    Raises:
        ConfigError: p is out of range.

    >>> class_shares(torch.tensor([True, False]), 0.75)
    tensor([1.5000, 0.5000])
    """
    check_number("expert_share", expert_share, above=0, below=1)
    is_expert = labels_expert_is_one.float()
    return 2 * (expert_share * is_expert + (1 - expert_share) * (1 - is_expert))


def wasserstein_losses(logits_expert_is_high: Tensor, labels_expert_is_one: Tensor) -> Tensor:
    """The critic's loss of every position: ``-d`` for positives, ``d`` for negatives (arXiv 1701.07875).

    Without a gradient penalty it has no minimum.

    Args:
        logits_expert_is_high: ``[N, T]`` d.
        labels_expert_is_one: ``[N]`` bool.

    Returns:
        ``[N, T]``, not reduced.
    """
    return -_signs(logits_expert_is_high, labels_expert_is_one) * logits_expert_is_high


def hinge_losses(logits_expert_is_high: Tensor, labels_expert_is_one: Tensor, margin: float = 1.0) -> Tensor:
    """The hinge of every position: ``max(0, m - d)`` for positives, ``max(0, m + d)`` for negatives.

    Lim and Ye 2017, arXiv 1705.02894. Arguments and result as :func:`wasserstein_losses`.

    Args:
        logits_expert_is_high: ``[N, T]`` d.
        labels_expert_is_one: ``[N]`` bool.
        margin: m > 0; a logit beyond it has nothing left to learn.

    Returns:
        ``[N, T]``, not reduced.

    Raises:
        ConfigError: the margin is out of range.
    """
    check_number("margin", margin, above=0)
    return (margin - _signs(logits_expert_is_high, labels_expert_is_one) * logits_expert_is_high).clamp(min=0)


def _signs(logits: Tensor, labels: Tensor) -> Tensor:
    return (2 * labels.to(logits.dtype) - 1).unsqueeze(1)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of what the discriminator says: ``H(σ(d)) = softplus(d) - d σ(d)``, in [0, log 2].

    Computed at ``-|d|``, where both terms are positive: H is even, and the difference cancels in 16 bits.

    Args:
        logits: any shape, d.

    Returns:
        The same shape.

    >>> bernoulli_entropy(torch.tensor([0.0, 1000.0]))
    tensor([0.6931, 0.0000])
    """
    size = logits.abs()
    return softplus(-size) + size * (-size).sigmoid()


def pair_weights(positions: Tensor, rivals: Tensor) -> Tensor:
    """Weight of one position when every pair of a trace with a demonstration counts alike.

    ``w_n = 1 / (P · K_n)`` where n has a rival, 0 elsewhere; P pairs. Not in the paper.

    Args:
        positions: ``[N]`` scored positions K of each trace; a trace with none is in no pair.
        rivals: ``[N]`` int64, row of the demonstration each trace is compared with, -1 for none.

    Returns:
        ``[N]`` float32; ``Σ_n w_n K_n`` is 1 where there is a pair.

    Raises:
        DataError: the shapes differ.

    >>> pair_weights(torch.tensor([2, 4, 1]), torch.tensor([-1, 0, 0]))
    tensor([0.0000, 0.1250, 0.5000])
    """
    check_same_shape(positions=positions, rivals=rivals)
    paired = ((rivals >= 0) & (positions > 0)).float()
    return paired / (paired.sum().clamp(min=1) * positions.clamp(min=1))


def pairwise_loss(
    logits_expert_is_high: Tensor,
    labels_expert_is_one: Tensor,
    grid: Tensor,
    weights: Tensor,
    rivals: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Share of one micro-batch in the relativistic pairwise loss.

    ``L = (1/P) Σ_pairs BCE(s_e - s_n, y)`` with ``s`` the mean logit over a trace's scored positions, ``e`` the
    demonstration of n's prompt, ``y = 1 - ε`` where n is a negative and ``y = ½``, a tie, where it is a positive
    (the relativistic discriminator, arXiv 1807.00734; the tie is not in that paper).

    Args:
        logits_expert_is_high: ``[N, T]``.
        labels_expert_is_one: ``[N]`` bool.
        grid: ``[N, T]`` bool, scored positions.
        weights: ``[N]``, these rows of :func:`pair_weights` over the whole update.
        rivals: ``[N]`` int64, row *of this micro-batch* that holds the demonstration, -1 for none.
        label_smoothing: ε in [0, 0.5).

    Returns:
        A scalar; the micro-batches' scalars add up to the whole.

    Raises:
        ConfigError: ε is out of range.
        DataError: the shapes differ, or a pair was split.
    """
    check_number("label_smoothing", label_smoothing, at_least=0, below=0.5)
    check_same_shape(weights=weights, rivals=rivals, labels_expert_is_one=labels_expert_is_one)
    paired = weights != 0
    if bool((paired & (rivals < 0)).any()):
        raise DataError(
            "A trace was parted from its demonstration.",
            expected="both in one micro-batch",
            got=f"{int((paired & (rivals < 0)).sum())} traces alone",
            remedy="split with paired_budget_split",
        )
    scores_N = masked_mean(logits_expert_is_high, grid, dim=1)
    gaps_P = scores_N[rivals[paired]] - scores_N[paired]
    targets_P = torch.where(labels_expert_is_one[paired].bool(), 0.5, 1 - label_smoothing).to(gaps_P.dtype)
    losses_P = binary_cross_entropy_with_logits(gaps_P, targets_P, reduction="none")
    return ((weights * grid.sum(dim=1))[paired] * losses_P).sum()
