"""The discriminator's objective: smoothed cross-entropy at the scored positions, half the weight for each class.

Weights are computed once over a whole update and then only sliced, so the losses of any micro-batch split add up
to the loss of the whole.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.masking import masked_sum


def per_trace_weights(labels_expert_is_one: Tensor, positions: Tensor) -> Tensor:
    """Weight of one position when every trace of a class counts alike.

    ``w_n = 1 / (2 · #{traces of n's class} · K_n)``. Not in the paper: it keeps long traces from ruling.

    Args:
        labels_expert_is_one: ``[N]`` bool, True for positives.
        positions: ``[N]`` scored positions K of each trace; a trace with none weighs and counts nothing.

    Returns:
        ``[N]`` float32; ``Σ_n w_n K_n`` is one half for each class that is present.

    Raises:
        DataError: the shapes differ.

    >>> per_trace_weights(torch.tensor([True, False, False]), torch.tensor([2, 1, 5]))
    tensor([0.2500, 0.2500, 0.0500])
    """
    return _halves(labels_expert_is_one, (positions > 0).float()) / positions.clamp(min=1)


def per_position_weights(labels_expert_is_one: Tensor, positions: Tensor) -> Tensor:
    """Weight of one position when every scored position of a class counts alike.

    ``w_n = 1 / (2 · Σ_{m in n's class} K_m)``: the class means of ``L_D`` as the paper writes it. Arguments, result and
    errors as :func:`per_trace_weights`.

    >>> per_position_weights(torch.tensor([True, False, False]), torch.tensor([2, 1, 4]))
    tensor([0.2500, 0.1000, 0.1000])
    """
    return _halves(labels_expert_is_one, positions.float()) / positions.clamp(min=1)


def _halves(labels: Tensor, mass: Tensor) -> Tensor:
    """Scale the masses so that each class that is present sums to one half."""
    check_same_shape(positions=mass, labels_expert_is_one=labels)
    is_expert = labels.bool()
    total = torch.where(is_expert, masked_sum(mass, is_expert), masked_sum(mass, ~is_expert))
    return 0.5 * mass / total.clamp(min=1)


def smoothed_bce(logits_expert_is_high: Tensor, labels_expert_is_one: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of every position with its trace's smoothed label.

    ``-y log σ(d) - (1 - y) log(1 - σ(d))``, with ``y = 1 - ε`` for positives and ``ε`` for negatives.

    Args:
        logits_expert_is_high: ``[N, T]`` logits d.
        labels_expert_is_one: ``[N]`` bool.
        label_smoothing: ε in [0, 0.5).

    Returns:
        ``[N, T]``, not reduced.

    Raises:
        ConfigError: ε is out of range.
    """
    check_number("label_smoothing", label_smoothing, at_least=0, below=0.5)
    logits = logits_expert_is_high
    high, low = logits.new_tensor(1 - label_smoothing), logits.new_tensor(label_smoothing)
    targets = torch.where(labels_expert_is_one.bool(), high, low).unsqueeze(1).expand_as(logits)
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


@torch.no_grad()
def discriminator_statistics(
    logits_expert_is_high: Tensor, labels_expert_is_one: Tensor, grid: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Accuracy and mean logit of each class, in the weights of the loss.

    Args:
        logits_expert_is_high: ``[N, T]``.
        labels_expert_is_one: ``[N]`` bool.
        grid: ``[N, T]`` bool, scored positions.
        weights: ``[N]``, the loss's.

    Returns:
        ``accuracy_expert``, ``accuracy_policy``, ``logit_expert``, ``logit_policy``: scalars that add up, over the
        micro-batches of one update, to the class mean (0 if the class is absent). A logit of 0 is half right.

    Raises:
        DataError: the shapes differ.
    """
    logits, is_expert = logits_expert_is_high, labels_expert_is_one.bool()
    shares = 2 * weights
    called_expert = shares * masked_sum((logits.sign() + 1) / 2, grid, dim=1)
    called_policy = shares * masked_sum((1 - logits.sign()) / 2, grid, dim=1)
    means = shares * masked_sum(logits, grid, dim=1)
    return {
        "accuracy_expert": masked_sum(called_expert, is_expert),
        "accuracy_policy": masked_sum(called_policy, ~is_expert),
        "logit_expert": masked_sum(means, is_expert),
        "logit_policy": masked_sum(means, ~is_expert),
    }
