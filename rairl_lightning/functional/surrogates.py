"""What one token contributes to the policy's objective, under four ways of bounding the step."""

from typing import NamedTuple

from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.divergence import MAX_LOG_RATIO
from rairl_lightning.functional.masking import masked_mean


class Surrogate(NamedTuple):
    """The surrogate per token.

    Attributes:
        loss: ``[N, T]``, to be minimised.
        ratio: ``[N, T]`` ``π / π_old``.
        clipped: ``[N, T]`` bool, True where the clip removed the gradient (or, in CISPO, lowered its weight).
    """

    loss: Tensor
    ratio: Tensor
    clipped: Tensor


def clipped_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    dual_clip: float | None = None,
) -> Surrogate:
    """PPO's pessimistic surrogate.

    ``-min(ρ A, clip(ρ, 1 - ε, 1 + ε_high) A)`` with ``ρ = exp(log π - log π_old)`` (Eq. (7), arXiv 1707.06347;
    the upper ε of its own is DAPO's, arXiv 2503.14476). With a dual clip and A < 0 it is at most ``-c A``, so that
    one token whose ratio exploded cannot rule (dual clip, arXiv 1912.09729).

    Args:
        logprobs: ``[N, T]`` under the policy, with gradient.
        old_logprobs: ``[N, T]`` under the policy that sampled.
        advantages: ``[N, T]``.
        epsilon: ε > 0; ``inf`` leaves plain importance weighting.
        epsilon_high: upper ε > 0; ``None`` means ε.
        dual_clip: c > 1, largest ratio that a negative advantage is multiplied with; ``None`` means no limit.

    Returns:
        Loss, ratio and clip flag of every token, not reduced.

    Raises:
        ConfigError: an ε or c is out of range.
        DataError: the shapes differ.

    >>> import torch
    >>> zero = torch.zeros(1, 1)
    >>> clipped_surrogate(torch.tensor([[0.5]]), zero, zero + 2).loss
    tensor([[-2.4000]])
    """
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    ratio = (logprobs - old_logprobs).clamp(max=MAX_LOG_RATIO).exp()
    terms = _pessimistic(ratio, advantages, epsilon, epsilon_high)
    if dual_clip is None:
        return terms
    check_number("dual_clip", dual_clip, above=1)
    falling = advantages < 0
    loss = terms.loss.where(~falling, terms.loss.minimum(-dual_clip * advantages))
    return Surrogate(loss, ratio, terms.clipped | (falling & (ratio > dual_clip)))


def sequence_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    epsilon: float = 3e-4,
    epsilon_high: float | None = 4e-4,
) -> Surrogate:
    """The pessimistic surrogate on the ratio of the whole trace (GSPO, §4, arXiv 2507.18071).

    ``s_n = exp((1/L_n) Σ_t (log π - log π_old))`` bounds the step; token t is multiplied with
    ``sg(s_n) π_t / sg(π_t)``, whose value is ``s_n`` and whose gradient keeps its own advantage. With one advantage
    a trace and the weights 1/(N L_n), value and gradient are those of ``s_n A_n``.

    Args:
        logprobs: ``[N, T]`` under the policy, with gradient.
        old_logprobs: ``[N, T]`` under the policy that sampled.
        advantages: ``[N, T]``.
        completion_mask: ``[N, T]`` bool, the tokens of the trace: all of them, in one micro-batch.
        epsilon: ε > 0; smaller by far than a token's, since the mean hardly moves.
        epsilon_high: upper ε > 0; ``None`` means ε.

    Returns:
        Loss, ratio and clip flag of every token, not reduced.

    Raises:
        ConfigError: an ε is out of range.
        DataError: the shapes differ.
    """
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    mean_N = masked_mean((logprobs - old_logprobs).detach(), completion_mask, dim=1).clamp(max=MAX_LOG_RATIO)
    ratio = mean_N.exp().unsqueeze(1) * (logprobs - logprobs.detach()).exp()
    return _pessimistic(ratio, advantages, epsilon, epsilon_high)


def truncated_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    epsilon: float = 1.0,
    epsilon_high: float = 4.0,
) -> Surrogate:
    """Clip the importance *weight* and keep every token's gradient (CISPO, Eqs. (4) and (5), arXiv 2506.13585).

    ``-sg(clip(ρ, 1 - ε, 1 + ε_high)) A log π``. Its gradient is the meaning; its value is not comparable with a
    surrogate's.

    Args:
        logprobs: ``[N, T]`` under the policy, with gradient.
        old_logprobs: ``[N, T]`` under the policy that sampled.
        advantages: ``[N, T]``.
        epsilon: ε > 0; 1 or more sets no lower bound, as in the paper.
        epsilon_high: upper ε > 0.

    Returns:
        Loss, ratio and clip flag of every token, not reduced.

    Raises:
        ConfigError: an ε is out of range.
        DataError: the shapes differ.
    """
    check_number("epsilon", epsilon, above=0)
    check_number("epsilon_high", epsilon_high, above=0)
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    ratio = (logprobs - old_logprobs).detach().clamp(max=MAX_LOG_RATIO).exp()
    weight = ratio.clamp(1 - epsilon, 1 + epsilon_high)
    return Surrogate(-weight * advantages * logprobs, ratio, weight != ratio)


def _pessimistic(ratio: Tensor, advantages: Tensor, epsilon: float, epsilon_high: float | None) -> Surrogate:
    upper = epsilon if epsilon_high is None else epsilon_high
    check_number("epsilon", epsilon, above=0)
    check_number("epsilon_high", upper, above=0)
    loss = -(ratio * advantages).minimum(ratio.clamp(1 - epsilon, 1 + upper) * advantages)
    clipped = ((advantages > 0) & (ratio > 1 + upper)) | ((advantages < 0) & (ratio < 1 - epsilon))
    return Surrogate(loss, ratio, clipped)
