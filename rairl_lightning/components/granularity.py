"""The four granularities of the paper (arXiv 2510.01857)."""

from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.components.base import Granularity
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.grid import reward_grid
from rairl_lightning.types import TokenBatch


@dataclass(frozen=True)
class Sparse(Granularity):
    """Read the reward at the last completion token only."""

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """``[N, T]`` bool grid."""
        return reward_grid(tokens.completion_mask)


@dataclass(frozen=True)
class Interval(Granularity):
    """Read the reward at every n-th completion token, and at the last."""

    every: int = 15
    """n >= 1, in tokens, counted from the first completion token (the authors': 15)."""

    def __post_init__(self) -> None:
        check_number("every", self.every, at_least=1)

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """``[N, T]`` bool grid."""
        return reward_grid(tokens.completion_mask, every=self.every)


@dataclass(frozen=True)
class Step(Granularity):
    """Read the reward at the end of each reasoning step, and at the last token."""

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """``[N, T]`` bool grid."""
        return reward_grid(tokens.completion_mask, ends=tokens.step_ends)


@dataclass(frozen=True)
class Dense(Granularity):
    """Read the reward at every completion token."""

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """``[N, T]`` bool grid."""
        return reward_grid(tokens.completion_mask, every=1)
