"""From the rewards of a trace to the one number it is ranked by."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from rairl_lightning.functional.grid import backfill
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.pooling import last_value, log_product, lowest_value


class Pooling(ABC):
    """How the rewards of a trace become its score."""

    @abstractmethod
    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """Score of each trace.

        Args:
            rewards_NT: ``[N, T]``, back-filled or not: read on the grid.
            grid_NT: ``[N, T]`` bool.
            completion_mask_NT: ``[N, T]`` bool.

        Returns:
            ``[N]``, higher is better; 0 for an empty completion.
        """

    def log_weight(self, scores: Tensor) -> Tensor:
        """Logarithm of a score's weight in a vote: of D's probability ``σ(score)``.

        Args:
            scores: of any shape, from this pooling.
        """
        return logsigmoid(scores)


@dataclass(frozen=True)
class TokenWeighted(Pooling):
    """Mean over completion tokens of the back-filled reward: a segment counts by its length (the paper's)."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N]`` scores."""
        return masked_mean(backfill(rewards_NT, grid_NT, completion_mask_NT), completion_mask_NT, dim=1)


@dataclass(frozen=True)
class MeanOverGrid(Pooling):
    """Mean over scored positions: every segment counts alike."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N]`` scores."""
        return masked_mean(rewards_NT, grid_NT, dim=1)


@dataclass(frozen=True)
class Last(Pooling):
    """Reward at the last scored position; poor for a dense discriminator, which says there little of the whole."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N]`` scores."""
        return last_value(rewards_NT, grid_NT)


@dataclass(frozen=True)
class Minimum(Pooling):
    """Lowest reward of the scored positions: a trace is as good as its worst step."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N]`` scores."""
        return lowest_value(rewards_NT, grid_NT)


@dataclass(frozen=True)
class Product(Pooling):
    """``Σ_k log σ(r_k)``: logarithm of the probability that every segment is an expert's. Long traces score less."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N]`` scores, <= 0."""
        return log_product(rewards_NT, grid_NT)

    def log_weight(self, scores: Tensor) -> Tensor:
        """The score itself: it is the logarithm of a probability already."""
        return scores
