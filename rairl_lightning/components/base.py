"""What YAML swaps: one abstract class a role. A variant is a class named by its path, never a flag."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.types import TokenBatch


class Granularity(ABC):
    """Where the reward is read."""

    @abstractmethod
    def __call__(self, tokens: TokenBatch) -> Tensor:
        """Mark the scored positions: ``[N, T]`` bool, within the completion, its last token always."""


class Reduction(ABC):
    """How the scored positions of a class share its half of the discriminator's loss."""

    @abstractmethod
    def __call__(self, labels_expert_is_one_N: Tensor, positions_N: Tensor) -> Tensor:
        """Weight of one position of each trace, ``[N]``; each class that is present sums to one half."""


class DiscriminatorLoss(ABC):
    """What the discriminator minimises.

    The weights are computed once over a whole update; the losses of its micro-batches then add up exactly to the
    loss of the whole, in value and gradient.
    """

    @property
    def compares_traces(self) -> bool:
        """Whether a trace needs the demonstration of its prompt beside it."""
        return False

    @abstractmethod
    def trace_weights(
        self, labels_expert_is_one_N: Tensor, positions_N: Tensor, rivals_N: Tensor | None = None
    ) -> Tensor:
        """Weights over a whole update.

        Args:
            labels_expert_is_one_N: ``[N]`` bool, all traces of the update.
            positions_N: ``[N]`` scored positions of each.
            rivals_N: ``[N]`` int64, row of the demonstration of each trace's prompt, -1 for the demonstrations
                themselves and where there is none; only losses that compare traces read it.

        Returns:
            ``[N]`` float32, to be sliced along with the rows.
        """

    def position_weights(self, labels_expert_is_one_N: Tensor, weights_N: Tensor) -> Tensor:
        """What one scored position of each trace counts in the loss: its weight times its class's share.

        Args:
            labels_expert_is_one_N: ``[N]`` bool.
            weights_N: ``[N]``, these rows of :meth:`trace_weights`.

        Returns:
            ``[N]``; the weights themselves in a loss whose classes have no shares of their own.
        """
        return weights_N

    def micro_batches(self, lengths_N: Tensor, rivals_N: Tensor | None, max_tokens: int) -> list[Tensor]:
        """Rows of each micro-batch of an update, for a loss that compares traces: those it compares stay together.

        Of other losses any split is right, and the model that reads the traces chooses it.

        Args:
            lengths_N: ``[N]`` real tokens of each trace.
            rivals_N: as in :meth:`trace_weights`.
            max_tokens: padded tokens of one micro-batch, >= 1.
        """
        return token_budget_split(lengths_N, max_tokens)

    @abstractmethod
    def __call__(
        self,
        logits_expert_is_high_NT: Tensor,
        labels_expert_is_one_N: Tensor,
        grid_NT: Tensor,
        weights_N: Tensor,
        rivals_N: Tensor | None = None,
    ) -> Tensor:
        """Share of one micro-batch in the loss.

        Args:
            logits_expert_is_high_NT: ``[N, T]``, with gradient.
            labels_expert_is_one_N: ``[N]`` bool.
            grid_NT: ``[N, T]`` bool, scored positions.
            weights_N: ``[N]``, these rows of :meth:`trace_weights`.
            rivals_N: ``[N]`` int64, row *of this micro-batch* that holds the demonstration, -1 for none.

        Returns:
            A scalar sum.
        """


class Reward(ABC):
    """What the policy is paid."""

    @abstractmethod
    def __call__(self, logits_expert_is_high_NT: Tensor, grid_NT: Tensor, tokens: TokenBatch) -> Tensor:
        """Reward of every completion token.

        Args:
            logits_expert_is_high_NT: ``[N, T]``.
            grid_NT: ``[N, T]`` bool, where the reward is read.
            tokens: the N traces.

        Returns:
            ``[N, T]`` back-filled rewards, 0 outside the completion.
        """


class Advantage(ABC):
    """How rewards become advantages."""

    @abstractmethod
    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """Advantage of every completion token.

        Args:
            rewards_NT: ``[N, T]`` back-filled rewards, whole groups, the rows of a group adjacent.
            completion_mask_NT: ``[N, T]`` bool.
            group_size: G.
            grid_NT: ``[N, T]`` bool, where the reward was read; ``None`` means at every completion token. Only
                advantages that tell segments apart read it.

        Returns:
            ``[N, T]``, 0 outside the completion.
        """


class LengthNormalisation(ABC):
    """How much one token of a short or long trace weighs in the policy's loss."""

    @abstractmethod
    def __call__(self, completion_mask_NT: Tensor) -> Tensor:
        """Weight of every token, ``[N, T]`` float32 over all traces of a round; 0 outside the completion."""


@dataclass(frozen=True)
class PolicyLossOutput:
    """Share of one micro-batch in the round.

    Attributes:
        loss: scalar sum, with gradient.
        statistics: detached scalar sums; added over a round's micro-batches, and divided by their ``weight`` where
            that is not 1, they are the round's means.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


class PolicyLoss(ABC):
    """What the policy minimises; micro-batches add up as in :class:`DiscriminatorLoss`."""

    @property
    @abstractmethod
    def needs_reference(self) -> bool:
        """Whether the log-probabilities of the reference are read; if not, they are not computed."""

    @abstractmethod
    def token_weights(self, completion_mask_NT: Tensor) -> Tensor:
        """Weights over a whole round: ``[N, T]`` float32, to be sliced along with the rows."""

    @abstractmethod
    def __call__(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        reference_logprobs_NT: Tensor | None,
        advantages_NT: Tensor,
        weights_NT: Tensor,
    ) -> PolicyLossOutput:
        """Share of one micro-batch in the loss.

        Args:
            logprobs_NT: ``[N, T]`` under the policy, with gradient.
            old_logprobs_NT: ``[N, T]`` under the policy that sampled.
            reference_logprobs_NT: ``[N, T]`` under the reference; may be ``None`` if the loss has no KL.
            advantages_NT: ``[N, T]``.
            weights_NT: ``[N, T]``, these rows of :meth:`token_weights`.
        """


class Labelling(ABC):
    """Which rollouts the discriminator takes for experts."""

    @abstractmethod
    def __call__(
        self,
        rollout_answers: Sequence[str | None],
        demonstration_answers: Sequence[str],
        agree: Callable[[str, str], bool],
    ) -> Tensor:
        """Label the rollouts.

        Args:
            rollout_answers: N extracted answers, ``None`` where there is none.
            demonstration_answers: N answers of the demonstrations of the same prompts.
            agree: whether two answers are the same.

        Returns:
            ``[N]`` bool, True for positives.
        """
