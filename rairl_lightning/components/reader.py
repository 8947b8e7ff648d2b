"""From the head's outputs to rewards and scores: all of a trained reward that is not weights."""

from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.components.base import Granularity, Reward
from rairl_lightning.components.critics import Critic
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.types import TokenBatch


@dataclass(frozen=True)
class RewardReader:
    """How a discriminator's outputs are read, in training, scoring and evaluation alike.

    Attributes:
        critic: from the head's outputs to logit and pay.
        granularity: where the reward is read.
        reward: how the critic's pay becomes a reward.
        pooling: from the rewards of a trace to the one number it is ranked by.
    """

    critic: Critic
    granularity: Granularity
    reward: Reward
    pooling: Pooling

    def pay(self, outputs: Tensor, tokens: TokenBatch) -> Tensor:
        """What the critic would pay, before tempering and clipping, which flatten.

        Args:
            outputs: ``[N, T, …]`` of the head.
            tokens: N traces.

        Returns:
            ``[N, T]``, meaningful on the grid.
        """
        return self.critic.pay(outputs, self.granularity(tokens), tokens.completion_mask)

    def rewards(self, pay_NT: Tensor, tokens: TokenBatch) -> Tensor:
        """Reward of every completion token, ``[N, T]``, back-filled over the tokens before its grid point."""
        return self.reward(pay_NT, self.granularity(tokens), tokens)

    def pooled(self, rewards_NT: Tensor, tokens: TokenBatch) -> Tensor:
        """Reward of each trace, ``[N]``."""
        return self.pooling(rewards_NT, self.granularity(tokens), tokens.completion_mask)
