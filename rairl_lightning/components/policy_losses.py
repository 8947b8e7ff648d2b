"""What the policy minimises, and how tokens of short and long traces are weighed."""

from abc import abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from rairl_lightning.components.base import LengthNormalisation, PolicyLoss, PolicyLossOutput
from rairl_lightning.components.divergences import Divergence, EstimateK3
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.policy_loss import (
    constant_length_weights,
    surrogate_objective,
    token_mean_weights,
    trace_mean_weights,
)
from rairl_lightning.functional.surrogates import Surrogate, clipped_surrogate, sequence_surrogate, truncated_surrogate


@dataclass(frozen=True)
class TraceMean(LengthNormalisation):
    """Every trace counts alike: ``1 / (N · L_n)`` (GRPO)."""

    def __call__(self, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` token weights."""
        return trace_mean_weights(completion_mask_NT)


@dataclass(frozen=True)
class TokenMean(LengthNormalisation):
    """Every token counts alike: ``1 / Σ L_n`` (DAPO)."""

    def __call__(self, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` token weights."""
        return token_mean_weights(completion_mask_NT)


@dataclass(frozen=True)
class ConstantLength(LengthNormalisation):
    """Every token weighs ``1 / (N · max_tokens)``, whatever the lengths (Dr. GRPO)."""

    max_tokens: int
    """>= 1: the longest completion the sampler may return, in tokens."""

    def __post_init__(self) -> None:
        check_number("max_tokens", self.max_tokens, at_least=1)

    def __call__(self, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` token weights."""
        return constant_length_weights(completion_mask_NT, self.max_tokens)


class SurrogateLoss(PolicyLoss):
    """``Σ w (surrogate + β kl)``: a surrogate of the return for every token, and the KL to the reference."""

    kl_coef: float
    normalisation: LengthNormalisation
    kl: Divergence

    @abstractmethod
    def surrogate(
        self, logprobs_NT: Tensor, old_logprobs_NT: Tensor, advantages_NT: Tensor, completion_mask_NT: Tensor
    ) -> Surrogate:
        """Loss, ratio and clip flag of every token, ``[N, T]`` each."""

    @property
    def needs_reference(self) -> bool:
        """Only with a KL."""
        return self.kl_coef > 0

    def token_weights(self, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` weights over a whole round."""
        return self.normalisation(completion_mask_NT)

    def __call__(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        reference_logprobs_NT: Tensor | None,
        advantages_NT: Tensor,
        weights_NT: Tensor,
    ) -> PolicyLossOutput:
        """Share of one micro-batch."""
        terms = self.surrogate(logprobs_NT, old_logprobs_NT, advantages_NT, weights_NT != 0)
        loss, statistics = surrogate_objective(
            terms, logprobs_NT, reference_logprobs_NT, weights_NT, divergence=self.kl, kl_coef=self.kl_coef
        )
        return PolicyLossOutput(loss, statistics)


@dataclass(frozen=True)
class ClippedSurrogate(SurrogateLoss):
    """``Σ w (-min(ρ A, clip(ρ, 1 - ε, 1 + ε_high) A) + β kl)``: PPO's surrogate and the KL to the reference."""

    epsilon: float = 0.2
    """ε > 0: how far the ratio may fall below 1 and, without epsilon_high, rise above it (the authors': 0.2)."""

    epsilon_high: float | None = None
    """Upper ε > 0; null means epsilon (DAPO uses 0.28)."""

    kl_coef: float = 0.01
    """β >= 0: weight of the KL(policy ‖ reference) in the loss; 0 needs no reference (the authors': 0.01)."""

    normalisation: LengthNormalisation = TraceMean()
    """How tokens are weighed: TraceMean, TokenMean or ConstantLength."""

    kl: Divergence = field(default=EstimateK3())
    """How the KL is estimated: EstimateK1, EstimateK2 or EstimateK3."""

    dual_clip: float | None = None
    """c > 1: largest ratio that multiplies a negative advantage; null means no limit (its authors use 3)."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, above=0)
        check_number("epsilon_high", self.epsilon if self.epsilon_high is None else self.epsilon_high, above=0)
        check_number("kl_coef", self.kl_coef, at_least=0)
        if self.dual_clip is not None:
            check_number("dual_clip", self.dual_clip, above=1)

    def surrogate(
        self, logprobs_NT: Tensor, old_logprobs_NT: Tensor, advantages_NT: Tensor, completion_mask_NT: Tensor
    ) -> Surrogate:
        """``[N, T]`` terms."""
        return clipped_surrogate(
            logprobs_NT, old_logprobs_NT, advantages_NT, self.epsilon, self.epsilon_high, self.dual_clip
        )


@dataclass(frozen=True)
class SequenceSurrogate(SurrogateLoss):
    """The clipped surrogate on the ratio of the whole trace, ``s = exp(mean_t log ρ_t)`` (GSPO, arXiv 2507.18071).

    A token keeps an advantage of its own. Traces of one token make it ClippedSurrogate.
    """

    epsilon: float = 3e-4
    """ε > 0, far below a token's (GSPO: 3e-4)."""

    epsilon_high: float | None = 4e-4
    """Upper ε > 0; null means epsilon (GSPO: 4e-4)."""

    kl_coef: float = 0.01
    """β >= 0: weight of the KL(policy ‖ reference) in the loss; 0 needs no reference (the authors': 0.01)."""

    normalisation: LengthNormalisation = TraceMean()
    """How tokens are weighed: TraceMean, TokenMean or ConstantLength."""

    kl: Divergence = field(default=EstimateK3())
    """How the KL is estimated: EstimateK1, EstimateK2 or EstimateK3."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, above=0)
        check_number("epsilon_high", self.epsilon if self.epsilon_high is None else self.epsilon_high, above=0)
        check_number("kl_coef", self.kl_coef, at_least=0)

    def surrogate(
        self, logprobs_NT: Tensor, old_logprobs_NT: Tensor, advantages_NT: Tensor, completion_mask_NT: Tensor
    ) -> Surrogate:
        """``[N, T]`` terms."""
        return sequence_surrogate(
            logprobs_NT, old_logprobs_NT, advantages_NT, completion_mask_NT, self.epsilon, self.epsilon_high
        )


@dataclass(frozen=True)
class TruncatedSurrogate(SurrogateLoss):
    """``-sg(clip(ρ, 1 - ε, 1 + ε_high)) A log π``: the weight is clipped, no token falls silent (CISPO).

    arXiv 2506.13585. Its value says nothing; watch the reward.
    """

    epsilon: float = 1.0
    """ε > 0; 1 or more sets no lower bound (CISPO)."""

    epsilon_high: float = 4.0
    """Upper ε > 0; the paper tunes it, 4 caps the weight at 5 (arXiv 2510.13786)."""

    kl_coef: float = 0.01
    """β >= 0: weight of the KL(policy ‖ reference) in the loss; 0 needs no reference (the authors': 0.01)."""

    normalisation: LengthNormalisation = TraceMean()
    """How tokens are weighed: TraceMean, TokenMean or ConstantLength."""

    kl: Divergence = field(default=EstimateK3())
    """How the KL is estimated: EstimateK1, EstimateK2 or EstimateK3."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, above=0)
        check_number("epsilon_high", self.epsilon_high, above=0)
        check_number("kl_coef", self.kl_coef, at_least=0)

    def surrogate(
        self, logprobs_NT: Tensor, old_logprobs_NT: Tensor, advantages_NT: Tensor, completion_mask_NT: Tensor
    ) -> Surrogate:
        """``[N, T]`` terms."""
        return truncated_surrogate(logprobs_NT, old_logprobs_NT, advantages_NT, self.epsilon, self.epsilon_high)
