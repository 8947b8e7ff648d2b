"""What the sampling policy's log-probability of a segment takes from a critic's logit."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.segments import segment_mean, segment_sum


class LogprobTerm(ABC):
    """What the sampling policy's log-probability of a segment takes from the discriminator's logit."""

    @property
    @abstractmethod
    def needs_logprobs(self) -> bool:
        """Whether log-probabilities are read; if not, they need not be computed."""

    @abstractmethod
    def __call__(self, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` on the grid, detached."""


@dataclass(frozen=True)
class NoLogprob(LogprobTerm):
    """Nothing: the logit is what the head says (the paper's discriminator)."""

    @property
    def needs_logprobs(self) -> bool:
        """Never."""
        return False

    def __call__(self, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` zeros."""
        return torch.zeros(grid_NT.shape, device=grid_NT.device)


@dataclass(frozen=True)
class MeanLogprob(LogprobTerm):
    """``(1/L_k) Σ_{t in segment k} max(log π_old(x_t), floor)``: on one scale whatever the granularity."""

    floor: float | None = None
    """Lowest log-probability of a token, in nats, < 0; null means none. What neither player would write otherwise
    pushes its logit towards the experts by as much as it surprises the policy."""

    def __post_init__(self) -> None:
        _check_floor(self.floor)

    @property
    def needs_logprobs(self) -> bool:
        """Always."""
        return True

    def __call__(self, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` means of segments."""
        return segment_mean(_floored(logprobs_NT, self.floor), grid_NT, completion_mask_NT)


@dataclass(frozen=True)
class SummedLogprob(LogprobTerm):
    """``Σ_{t in segment k} max(log π_old(x_t), floor)``: AIRL's own; saturates the logit of long segments."""

    floor: float | None = None
    """Lowest log-probability of a token, in nats, < 0; null means none."""

    def __post_init__(self) -> None:
        _check_floor(self.floor)

    @property
    def needs_logprobs(self) -> bool:
        """Always."""
        return True

    def __call__(self, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` sums over segments."""
        return segment_sum(_floored(logprobs_NT, self.floor), grid_NT, completion_mask_NT)


def _check_floor(floor: float | None) -> None:
    if floor is not None:
        check_number("floor", floor, below=0)


def _floored(logprobs_NT: Tensor | None, floor: float | None) -> Tensor:
    if logprobs_NT is None:
        raise ConfigError(
            "The critic reads the sampling policy's log-probabilities, which were not computed.",
            expected="a log-probability of every completion token",
            got=None,
            remedy="pass them, or use the log-probability term NoLogprob",
        )
    return logprobs_NT.detach().clamp(min=floor) if floor is not None else logprobs_NT.detach()
