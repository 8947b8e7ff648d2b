"""The policy's objective: clipped surrogate, KL to the reference, and how tokens of different traces are weighted.

Weights are computed once over a whole round and then only sliced, so the losses of any micro-batch split add up to
the loss of the whole.
"""

from collections.abc import Callable

from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.divergence import kl_k3
from rairl_lightning.functional.masking import masked_sum
from rairl_lightning.functional.surrogates import Surrogate


def trace_mean_weights(completion_mask: Tensor) -> Tensor:
    """Every trace counts alike: ``w_nt = 1 / (N · L_n)`` (GRPO, arXiv 2402.03300).

    Args:
        completion_mask: ``[N, T]`` bool, all traces of the round.

    Returns:
        ``[N, T]`` float32, 0 outside the completion.
    """
    lengths = completion_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return completion_mask.float() / (max(1, len(completion_mask)) * lengths)


def token_mean_weights(completion_mask: Tensor) -> Tensor:
    """Every token counts alike: ``w_nt = 1 / Σ_m L_m`` (DAPO, arXiv 2503.14476). As :func:`trace_mean_weights`."""
    return completion_mask.float() / completion_mask.sum().clamp(min=1)


def constant_length_weights(completion_mask: Tensor, max_tokens: int) -> Tensor:
    """No length in the weight: ``w_nt = 1 / (N · L_max)`` (Dr. GRPO, arXiv 2503.20783).

    Args:
        completion_mask: ``[N, T]`` bool, all traces of the round.
        max_tokens: L_max >= 1, the longest completion the sampler may return.

    Returns:
        ``[N, T]`` float32, 0 outside the completion; sums to less than 1 when traces are shorter.

    Raises:
        ConfigError: ``max_tokens`` is below 1.
    """
    check_number("max_tokens", max_tokens, at_least=1)
    return completion_mask.float() / (max(1, len(completion_mask)) * max_tokens)


def surrogate_objective(
    surrogate: Surrogate,
    logprobs: Tensor,
    reference_logprobs: Tensor | None,
    weights: Tensor,
    *,
    divergence: Callable[[Tensor, Tensor], Tensor] = kl_k3,
    kl_coef: float = 0.01,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Share of one micro-batch in the policy's loss.

    ``L = Σ_nt w_nt (surrogate_nt + β kl_nt)``

    Args:
        surrogate: of every token.
        logprobs: ``[N, T]`` under the policy, with gradient.
        reference_logprobs: ``[N, T]``; may be ``None`` where β = 0.
        weights: ``[N, T]`` of the *whole* round's weights the rows of this micro-batch; 0 does not count.
        divergence: maps log-probabilities of policy and reference to a KL estimate per token.
        kl_coef: β >= 0.

    Returns:
        The loss, a scalar, and ``weight`` (Σ w), ``surrogate``, ``ratio``, ``clip_fraction``, and ``kl`` where
        there is a reference: detached sums. Added over the micro-batches of a round, and divided by ``weight``
        where the weights do not sum to 1, they are the round's means.

    Raises:
        ConfigError: β is out of range, or above 0 without a reference.
        DataError: the shapes differ.
    """
    check_number("kl_coef", kl_coef, at_least=0)
    if kl_coef > 0 and reference_logprobs is None:
        raise ConfigError(
            "The KL has no reference to be measured against.",
            expected="reference log-probabilities",
            got=f"None with kl_coef = {kl_coef}",
            remedy="pass them, or set kl_coef: 0",
        )
    counts = weights != 0
    terms = {"surrogate": surrogate.loss, "ratio": surrogate.ratio, "clip_fraction": surrogate.clipped.to(weights)}
    if reference_logprobs is not None:
        terms["kl"] = divergence(logprobs, reference_logprobs)
    sums = {name: masked_sum(weights * term, counts) for name, term in terms.items()}
    loss = sums["surrogate"] + (kl_coef * sums["kl"] if "kl" in sums else 0)
    return loss, {"weight": weights.sum(), **{name: value.detach() for name, value in sums.items()}}
