"""The gap between the log-probabilities a sampler reports and those the trainer computes for the same tokens."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.divergence import MAX_LOG_RATIO, kl_k3
from rairl_lightning.functional.masking import masked_mean


@torch.no_grad()
def truncated_importance(
    trainer_logprobs: Tensor, sampler_logprobs: Tensor, completion_mask: Tensor, cap: float = 2.0
) -> Tensor:
    """Weight of each token for having been drawn from the sampler's distribution, not the trainer's.

    ``min(π_trainer(x_t) / π_sampler(x_t), C)`` (truncated importance sampling: Ionides 2008; Yao et al. 2025). Both
    are the *same* weights before the update; they differ by kernels, precision and caches.

    Args:
        trainer_logprobs: ``[N, T]`` under the policy before the update, computed as in training.
        sampler_logprobs: ``[N, T]`` as reported while sampling.
        completion_mask: ``[N, T]`` bool.
        cap: C >= 1.

    Returns:
        ``[N, T]`` detached, 0 outside the completion; multiply the advantages with it.

    Raises:
        ConfigError: C is out of range.
        DataError: the shapes differ.

    >>> truncated_importance(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    tensor([[1., 2.]])
    """
    check_number("cap", cap, at_least=1)
    check_same_shape(trainer=trainer_logprobs, sampler=sampler_logprobs, completion_mask=completion_mask)
    ratio = (trainer_logprobs - sampler_logprobs).clamp(max=MAX_LOG_RATIO).exp().clamp(max=cap)
    return torch.where(completion_mask, ratio, torch.zeros_like(ratio))


@torch.no_grad()
def gap_statistics(trainer_logprobs: Tensor, sampler_logprobs: Tensor, completion_mask: Tensor) -> dict[str, Tensor]:
    """How far apart sampler and trainer are, over the completion tokens of a round.

    Args:
        trainer_logprobs: ``[N, T]``.
        sampler_logprobs: ``[N, T]``.
        completion_mask: ``[N, T]`` bool.

    Returns:
        ``gap_mean`` and ``gap_max`` (nats, absolute), ``gap_kl`` (k3 of KL(sampler ‖ trainer)), ``gap_ratio`` (mean
        ``π_trainer / π_sampler``, 1 in expectation where only rounding differs): scalars, 0 without tokens.

    Raises:
        DataError: the shapes differ.
    """
    check_same_shape(trainer=trainer_logprobs, sampler=sampler_logprobs, completion_mask=completion_mask)
    gap = torch.where(completion_mask, trainer_logprobs - sampler_logprobs, torch.zeros_like(trainer_logprobs))
    return {
        "gap_mean": masked_mean(gap.abs(), completion_mask),
        "gap_max": gap.abs().max() if gap.numel() else gap.new_zeros(()),
        "gap_kl": masked_mean(kl_k3(sampler_logprobs, trainer_logprobs), completion_mask),
        "gap_ratio": masked_mean(gap.clamp(max=MAX_LOG_RATIO).exp(), completion_mask),
    }
