"""Estimates of KL(π ‖ π_ref) from samples of π (Schulman 2020), per token."""

from torch import Tensor

MAX_LOG_RATIO = 20.0  # exp(20) ≈ 5e8: far outside any trust region, and its gradient is still finite


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased estimate of KL(π ‖ π_ref) per token, any sign: ``k1 = log π - log π_ref`` (Schulman 2020).

    Args:
        logprobs: ``[N, T]`` under the policy that sampled.
        reference_logprobs: ``[N, T]``.

    Returns:
        ``[N, T]``.
    """
    return logprobs - reference_logprobs


def kl_k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Biased, never negative estimate: ``k2 = ½ (log π - log π_ref)²`` (Schulman 2020). As :func:`kl_k1`."""
    return 0.5 * (logprobs - reference_logprobs) ** 2


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased, never negative estimate: ``k3 = e^δ - 1 - δ``, ``δ = log π_ref - log π`` (Schulman 2020).

    Arguments and result as :func:`kl_k1`; constant beyond δ = 20, where ``e^δ`` would overflow.

    >>> import torch
    >>> kl_k3(torch.tensor([-1.0]), torch.tensor([-1.0]))
    tensor([0.])
    """
    delta = (reference_logprobs - logprobs).clamp(max=MAX_LOG_RATIO)
    return delta.expm1() - delta
