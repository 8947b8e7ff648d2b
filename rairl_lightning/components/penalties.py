"""What keeps the discriminator's score from changing too steeply with its input; added to any of its losses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.gradient_penalty import (
    LogitsOf,
    directional_squares,
    mixed_embeddings,
    norm_from_squares,
    row_shares,
    squared_gradients,
)


@dataclass(frozen=True)
class PenaltyInputs:
    """One micro-batch as a penalty sees it.

    Attributes:
        embeddings_NTH: input embeddings of the traces.
        completion_mask_NT: bool.
        grid_NT: bool, scored positions.
        seeds_N: int64, one a trace, drawn once over the whole update.
        partners_NTH: embeddings of a trace of the other class for each, laid over its completion by
            ``aligned_completions``; ``None`` where the penalty needs none.
        both_NT: bool, where trace and partner both have a token; ``None`` likewise.
    """

    embeddings_NTH: Tensor
    completion_mask_NT: Tensor
    grid_NT: Tensor
    seeds_N: Tensor
    partners_NTH: Tensor | None = None
    both_NT: Tensor | None = None


class GradientPenalty(ABC):
    """A penalty on the gradient of a trace's mean logit with respect to its completion's input embeddings."""

    @property
    @abstractmethod
    def needs_partners(self) -> bool:
        """Whether it looks between traces of the two classes."""

    @property
    @abstractmethod
    def differentiates_twice(self) -> bool:
        """Whether the backbone's attention must be ``eager``: fused kernels have no second derivative."""

    @abstractmethod
    def trace_weights(self, labels_expert_is_one_N: Tensor) -> Tensor:
        """Weights over a whole update, ``[N]`` float32, to be sliced along with the rows; 0 skips a trace."""

    @abstractmethod
    def __call__(self, logits_of: LogitsOf, inputs: PenaltyInputs, weights_N: Tensor) -> Tensor:
        """Share of one micro-batch.

        Args:
            logits_of: maps input embeddings ``[N, T, H]`` of these traces to the discriminator's logits ``[N, T]``.
            inputs: the micro-batch.
            weights_N: ``[N]``, these rows of :meth:`trace_weights`.

        Returns:
            A scalar sum; whatever the split, the sums add up to the whole.
        """


@dataclass(frozen=True)
class R1Penalty(GradientPenalty):
    """``½ λ mean_pos ‖∇s‖²`` (arXiv 1801.04406). Differentiates twice: needs ``attn_implementation: eager``."""

    coef: float = 1.0
    """λ > 0."""

    def __post_init__(self) -> None:
        check_number("coef", self.coef, above=0)

    @property
    def needs_partners(self) -> bool:
        """No."""
        return False

    @property
    def differentiates_twice(self) -> bool:
        """Yes."""
        return True

    def trace_weights(self, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N]``: positives alike."""
        return _alike(labels_expert_is_one_N.float())

    def __call__(self, logits_of: LogitsOf, inputs: PenaltyInputs, weights_N: Tensor) -> Tensor:
        """Scalar share of one micro-batch."""
        squares_N = squared_gradients(logits_of, inputs.embeddings_NTH, inputs.completion_mask_NT, inputs.grid_NT)
        return 0.5 * self.coef * (weights_N * squares_N).sum()


@dataclass(frozen=True)
class ApproximateR1(GradientPenalty):
    """R1 by one random finite difference a trace (after arXiv 2501.08316): two forward passes, any backbone."""

    coef: float = 1.0
    """λ > 0."""

    step: float = 0.1
    """Length of the difference, as a share of the root mean square of a trace's embeddings, > 0."""

    def __post_init__(self) -> None:
        check_number("coef", self.coef, above=0)
        check_number("step", self.step, above=0)

    @property
    def needs_partners(self) -> bool:
        """No."""
        return False

    @property
    def differentiates_twice(self) -> bool:
        """No."""
        return False

    def trace_weights(self, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N]``: positives alike."""
        return _alike(labels_expert_is_one_N.float())

    def __call__(self, logits_of: LogitsOf, inputs: PenaltyInputs, weights_N: Tensor) -> Tensor:
        """Scalar share of one micro-batch."""
        squares_N = directional_squares(
            logits_of, inputs.embeddings_NTH, inputs.completion_mask_NT, inputs.grid_NT, inputs.seeds_N, self.step
        )
        return 0.5 * self.coef * (weights_N * squares_N).sum()


@dataclass(frozen=True)
class UnitGradient(GradientPenalty):
    """``λ mean (‖∇s‖ - 1)²`` between traces of the two classes (WGAN-GP, Eq. (3), arXiv 1704.00028).

    Completions are mixed token by token from their first; where the partner is shorter, a trace keeps its own.
    Differentiates twice: needs ``attn_implementation: eager``.
    """

    coef: float = 10.0
    """λ > 0 (WGAN-GP: 10)."""

    def __post_init__(self) -> None:
        check_number("coef", self.coef, above=0)

    @property
    def needs_partners(self) -> bool:
        """Yes."""
        return True

    @property
    def differentiates_twice(self) -> bool:
        """Yes."""
        return True

    def trace_weights(self, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N]``: all traces alike."""
        return _alike(torch.ones_like(labels_expert_is_one_N, dtype=torch.float32))

    def __call__(self, logits_of: LogitsOf, inputs: PenaltyInputs, weights_N: Tensor) -> Tensor:
        """Scalar share of one micro-batch."""
        if inputs.partners_NTH is None or inputs.both_NT is None:
            raise ConfigError("The gradient penalty has nothing to mix traces with.", expected="partners", got=None)
        points_NTH = mixed_embeddings(
            inputs.embeddings_NTH, inputs.partners_NTH, inputs.both_NT, row_shares(inputs.seeds_N)
        )
        squares_N = squared_gradients(logits_of, points_NTH, inputs.completion_mask_NT, inputs.grid_NT)
        return self.coef * (weights_N * (norm_from_squares(squares_N) - 1).square()).sum()


def _alike(counts_N: Tensor) -> Tensor:
    return counts_N / counts_N.sum().clamp(min=1)
