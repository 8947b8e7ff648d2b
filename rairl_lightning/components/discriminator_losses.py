"""What the discriminator minimises."""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.components.base import DiscriminatorLoss, Reduction
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.adversarial import (
    bernoulli_entropy,
    class_shares,
    hinge_losses,
    pair_weights,
    pairwise_loss,
    wasserstein_losses,
    weighted_grid_sum,
)
from rairl_lightning.functional.batching import paired_budget_split
from rairl_lightning.functional.discriminator import per_position_weights, per_trace_weights, smoothed_bce


@dataclass(frozen=True)
class PerTrace(Reduction):
    """Every trace of a class counts alike, long or short."""

    def __call__(self, labels_expert_is_one_N: Tensor, positions_N: Tensor) -> Tensor:
        """``[N]`` weight of one position of each trace."""
        return per_trace_weights(labels_expert_is_one_N, positions_N)


@dataclass(frozen=True)
class PerPosition(Reduction):
    """Every scored position of a class counts alike, so long traces count more."""

    def __call__(self, labels_expert_is_one_N: Tensor, positions_N: Tensor) -> Tensor:
        """``[N]`` weight of one position of each trace."""
        return per_position_weights(labels_expert_is_one_N, positions_N)


class PositionLoss(DiscriminatorLoss):
    """A loss of every scored position by itself: ``p mean_pos l + (1 - p) mean_neg l``.

    With one class absent the other keeps its share.
    """

    reduction: Reduction
    expert_share: float

    @abstractmethod
    def losses(self, logits_expert_is_high_NT: Tensor, labels_expert_is_one_N: Tensor) -> Tensor:
        """``l``, ``[N, T]``."""

    def trace_weights(
        self, labels_expert_is_one_N: Tensor, positions_N: Tensor, rivals_N: Tensor | None = None
    ) -> Tensor:
        """``[N]`` weights over a whole update, before the classes' shares."""
        return self.reduction(labels_expert_is_one_N, positions_N)

    def position_weights(self, labels_expert_is_one_N: Tensor, weights_N: Tensor) -> Tensor:
        """``[N]`` weights with the classes' shares."""
        return weights_N * class_shares(labels_expert_is_one_N, self.expert_share)

    def __call__(
        self,
        logits_expert_is_high_NT: Tensor,
        labels_expert_is_one_N: Tensor,
        grid_NT: Tensor,
        weights_N: Tensor,
        rivals_N: Tensor | None = None,
    ) -> Tensor:
        """Scalar share of one micro-batch."""
        losses_NT = self.losses(logits_expert_is_high_NT, labels_expert_is_one_N)
        return weighted_grid_sum(losses_NT, grid_NT, self.position_weights(labels_expert_is_one_N, weights_N))


@dataclass(frozen=True)
class BinaryCrossEntropy(PositionLoss):
    """``p mean_pos BCE(d, 1 - ε) + (1 - p) mean_neg BCE(d, ε)`` at the scored positions."""

    label_smoothing: float = 0.1
    """ε in [0, 0.5): labels are 1 - ε and ε (the authors': 0.1)."""

    reduction: Reduction = PerTrace()
    """What "mean" is taken over within a class: PerTrace or PerPosition."""

    expert_share: float = 0.5
    """p in (0, 1), the positives' share of the loss (the authors': 0.5)."""

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, at_least=0, below=0.5)
        check_number("expert_share", self.expert_share, above=0, below=1)

    def losses(self, logits_expert_is_high_NT: Tensor, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N, T]`` cross-entropies."""
        return smoothed_bce(logits_expert_is_high_NT, labels_expert_is_one_N, self.label_smoothing)


@dataclass(frozen=True)
class Wasserstein(PositionLoss):
    """``(1 - p) mean_neg d - p mean_pos d``: a critic, to be held by a gradient penalty (WGAN, arXiv 1701.07875)."""

    reduction: Reduction = PerTrace()
    """What "mean" is taken over within a class: PerTrace or PerPosition."""

    expert_share: float = 0.5
    """p in (0, 1), the positives' share of the loss; anything but 0.5 also moves the mean of d without end."""

    def __post_init__(self) -> None:
        check_number("expert_share", self.expert_share, above=0, below=1)

    def losses(self, logits_expert_is_high_NT: Tensor, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N, T]`` signed logits."""
        return wasserstein_losses(logits_expert_is_high_NT, labels_expert_is_one_N)


@dataclass(frozen=True)
class Hinge(PositionLoss):
    """``p mean_pos max(0, m - d) + (1 - p) mean_neg max(0, m + d)`` (arXiv 1705.02894)."""

    margin: float = 1.0
    """m > 0: a logit beyond it has nothing left to learn."""

    reduction: Reduction = PerTrace()
    """What "mean" is taken over within a class: PerTrace or PerPosition."""

    expert_share: float = 0.5
    """p in (0, 1), the positives' share of the loss."""

    def __post_init__(self) -> None:
        check_number("margin", self.margin, above=0)
        check_number("expert_share", self.expert_share, above=0, below=1)

    def losses(self, logits_expert_is_high_NT: Tensor, labels_expert_is_one_N: Tensor) -> Tensor:
        """``[N, T]`` hinges."""
        return hinge_losses(logits_expert_is_high_NT, labels_expert_is_one_N, self.margin)


@dataclass(frozen=True)
class Pairwise(DiscriminatorLoss):
    """``mean_pairs BCE(s_demonstration - s_trace, y)`` over traces of the demonstration's own prompt.

    ``s`` is a trace's mean logit; ``y = 1 - ε`` against a negative, and ½, a tie, against a rollout that was
    labelled positive. Traces whose demonstration is not in the update count nothing.
    """

    label_smoothing: float = 0.0
    """ε in [0, 0.5) of pairs that are not ties."""

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, at_least=0, below=0.5)

    @property
    def compares_traces(self) -> bool:
        """Yes."""
        return True

    def trace_weights(
        self, labels_expert_is_one_N: Tensor, positions_N: Tensor, rivals_N: Tensor | None = None
    ) -> Tensor:
        """``[N]`` weights over a whole update."""
        return pair_weights(positions_N, _needed(rivals_N))

    def micro_batches(self, lengths_N: Tensor, rivals_N: Tensor | None, max_tokens: int) -> list[Tensor]:
        """Traces with the demonstration of their prompt, which is forwarded again in each."""
        return paired_budget_split(lengths_N, _needed(rivals_N), max_tokens)

    def __call__(
        self,
        logits_expert_is_high_NT: Tensor,
        labels_expert_is_one_N: Tensor,
        grid_NT: Tensor,
        weights_N: Tensor,
        rivals_N: Tensor | None = None,
    ) -> Tensor:
        """Scalar share of one micro-batch."""
        return pairwise_loss(
            logits_expert_is_high_NT,
            labels_expert_is_one_N,
            grid_NT,
            weights_N,
            _needed(rivals_N),
            self.label_smoothing,
        )


def _needed(rivals_N: Tensor | None) -> Tensor:
    if rivals_N is None:
        raise ConfigError(
            "The pairwise loss does not know which demonstration a trace is compared with.",
            expected="rivals_N, a row for each trace",
            got=None,
            remedy="pass the rows of the demonstrations, or choose a loss that does not compare traces",
        )
    return rivals_N


@dataclass(frozen=True)
class EntropyBonus(DiscriminatorLoss):
    """``loss - c Σ w H(σ(d))``: any loss, less sure of itself; positions weigh as in that loss (not in the paper)."""

    loss: DiscriminatorLoss = BinaryCrossEntropy()
    """What it is added to."""

    coef: float = 0.01
    """c > 0."""

    def __post_init__(self) -> None:
        check_number("coef", self.coef, above=0)

    @property
    def compares_traces(self) -> bool:
        """If the loss does."""
        return self.loss.compares_traces

    def trace_weights(
        self, labels_expert_is_one_N: Tensor, positions_N: Tensor, rivals_N: Tensor | None = None
    ) -> Tensor:
        """``[N]`` the loss's weights."""
        return self.loss.trace_weights(labels_expert_is_one_N, positions_N, rivals_N)

    def position_weights(self, labels_expert_is_one_N: Tensor, weights_N: Tensor) -> Tensor:
        """``[N]`` the loss's, so that bonuses may be stacked."""
        return self.loss.position_weights(labels_expert_is_one_N, weights_N)

    def micro_batches(self, lengths_N: Tensor, rivals_N: Tensor | None, max_tokens: int) -> list[Tensor]:
        """As the loss wants them."""
        return self.loss.micro_batches(lengths_N, rivals_N, max_tokens)

    def __call__(
        self,
        logits_expert_is_high_NT: Tensor,
        labels_expert_is_one_N: Tensor,
        grid_NT: Tensor,
        weights_N: Tensor,
        rivals_N: Tensor | None = None,
    ) -> Tensor:
        """Scalar share of one micro-batch."""
        loss = self.loss(logits_expert_is_high_NT, labels_expert_is_one_N, grid_NT, weights_N, rivals_N)
        entropies_NT = bernoulli_entropy(logits_expert_is_high_NT)
        counted_N = self.position_weights(labels_expert_is_one_N, weights_N)
        return loss - self.coef * weighted_grid_sum(entropies_NT, grid_NT, counted_N)
