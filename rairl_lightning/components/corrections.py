"""What is done about the gap between the sampler's log-probabilities and the trainer's."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.importance import truncated_importance


class SamplerCorrection(ABC):
    """Weights for tokens that were drawn from a distribution slightly other than the trainer's."""

    @property
    @abstractmethod
    def needs_trainer(self) -> bool:
        """Whether the trainer must compute the log-probabilities of the round anew before it updates.

        They are then the old ones of the policy's loss; otherwise the sampler's are.
        """

    @abstractmethod
    def __call__(
        self, trainer_logprobs_NT: Tensor | None, sampler_logprobs_NT: Tensor, completion_mask_NT: Tensor
    ) -> Tensor:
        """Factor on each token's advantage, ``[N, T]`` detached.

        Args:
            trainer_logprobs_NT: ``[N, T]`` before the update; may be ``None`` where it is not needed.
            sampler_logprobs_NT: ``[N, T]`` as reported while sampling.
            completion_mask_NT: ``[N, T]`` bool.
        """


@dataclass(frozen=True)
class Uncorrected(SamplerCorrection):
    """None: the policy's ratio is taken against the sampler itself, and its clip bounds the gap too."""

    @property
    def needs_trainer(self) -> bool:
        """No."""
        return False

    def __call__(
        self, trainer_logprobs_NT: Tensor | None, sampler_logprobs_NT: Tensor, completion_mask_NT: Tensor
    ) -> Tensor:
        """``[N, T]`` ones on the completion."""
        return completion_mask_NT.to(sampler_logprobs_NT.dtype)


@dataclass(frozen=True)
class TruncatedImportance(SamplerCorrection):
    """``min(π_trainer / π_sampler, C)``: unbiased but for the cap (Yao et al. 2025)."""

    cap: float = 2.0
    """C >= 1."""

    def __post_init__(self) -> None:
        check_number("cap", self.cap, at_least=1)

    @property
    def needs_trainer(self) -> bool:
        """Yes."""
        return True

    def __call__(
        self, trainer_logprobs_NT: Tensor | None, sampler_logprobs_NT: Tensor, completion_mask_NT: Tensor
    ) -> Tensor:
        """``[N, T]`` in [0, C]."""
        if trainer_logprobs_NT is None:
            raise ConfigError("The correction lacks the trainer's log-probabilities.", expected="[N, T]", got=None)
        return truncated_importance(trainer_logprobs_NT, sampler_logprobs_NT, completion_mask_NT, self.cap)
