"""The KL to the reference: how it is estimated, and whether it is paid in the reward."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.divergence import kl_k1, kl_k2, kl_k3


class Divergence(ABC):
    """An estimate of KL(policy ‖ reference) for each token."""

    @abstractmethod
    def __call__(self, logprobs_NT: Tensor, reference_logprobs_NT: Tensor) -> Tensor:
        """``[N, T]`` in nats."""


@dataclass(frozen=True)
class EstimateK1(Divergence):
    """``log π - log π_ref``: unbiased, any sign. For the reward: as a loss, its gradient is 0 in expectation."""

    def __call__(self, logprobs_NT: Tensor, reference_logprobs_NT: Tensor) -> Tensor:
        """``[N, T]``."""
        return kl_k1(logprobs_NT, reference_logprobs_NT)


@dataclass(frozen=True)
class EstimateK2(Divergence):
    """``½ (log π - log π_ref)²``: as a loss, its on-policy gradient is exactly that of the KL."""

    def __call__(self, logprobs_NT: Tensor, reference_logprobs_NT: Tensor) -> Tensor:
        """``[N, T]``."""
        return kl_k2(logprobs_NT, reference_logprobs_NT)


@dataclass(frozen=True)
class EstimateK3(Divergence):
    """``e^δ - 1 - δ``, ``δ = log π_ref - log π``: unbiased, never negative (GRPO's, and the authors')."""

    def __call__(self, logprobs_NT: Tensor, reference_logprobs_NT: Tensor) -> Tensor:
        """``[N, T]``."""
        return kl_k3(logprobs_NT, reference_logprobs_NT)


class RewardPenalty(ABC):
    """What is taken from the reward of a round before it becomes an advantage."""

    @property
    @abstractmethod
    def needs_reference(self) -> bool:
        """Whether the log-probabilities of the reference are read; if not, they are not computed."""

    @abstractmethod
    def __call__(
        self,
        rewards_NT: Tensor,
        logprobs_NT: Tensor,
        reference_logprobs_NT: Tensor | None,
        completion_mask_NT: Tensor,
    ) -> Tensor:
        """Penalised reward.

        Args:
            rewards_NT: ``[N, T]`` back-filled.
            logprobs_NT: ``[N, T]`` under the policy that sampled.
            reference_logprobs_NT: ``[N, T]``; may be ``None`` where it is not needed.
            completion_mask_NT: ``[N, T]`` bool.

        Returns:
            ``[N, T]``, 0 outside the completion.
        """


@dataclass(frozen=True)
class NoPenalty(RewardPenalty):
    """Nothing: the KL, if any, is in the loss."""

    @property
    def needs_reference(self) -> bool:
        """No."""
        return False

    def __call__(
        self,
        rewards_NT: Tensor,
        logprobs_NT: Tensor,
        reference_logprobs_NT: Tensor | None,
        completion_mask_NT: Tensor,
    ) -> Tensor:
        """``[N, T]`` unchanged."""
        return rewards_NT


@dataclass(frozen=True)
class KLInReward(RewardPenalty):
    """``r_t - β kl_t``; set the loss's ``kl_coef`` to 0 with it, or the KL counts twice."""

    coef: float = 0.01
    """β > 0, in units of reward a nat."""

    estimate: Divergence = EstimateK1()
    """How the KL is estimated: EstimateK1, EstimateK2 or EstimateK3."""

    def __post_init__(self) -> None:
        check_number("coef", self.coef, above=0)

    @property
    def needs_reference(self) -> bool:
        """Yes."""
        return True

    def __call__(
        self,
        rewards_NT: Tensor,
        logprobs_NT: Tensor,
        reference_logprobs_NT: Tensor | None,
        completion_mask_NT: Tensor,
    ) -> Tensor:
        """``[N, T]`` penalised."""
        if reference_logprobs_NT is None:
            raise ConfigError("The KL has no reference to be measured against.", expected="log-probabilities", got=None)
        penalty_NT = self.coef * self.estimate(logprobs_NT, reference_logprobs_NT).detach()
        return torch.where(completion_mask_NT, rewards_NT - penalty_NT, torch.zeros_like(rewards_NT))
