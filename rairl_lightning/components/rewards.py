"""What the policy is paid."""

from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.components.base import Reward
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.grid import backfill
from rairl_lightning.functional.rewards import logit_to_reward
from rairl_lightning.types import TokenBatch


@dataclass(frozen=True)
class ClippedLogit(Reward):
    """``r = clip(d / τ, -c, c)`` at the scored positions, back-filled over the tokens before them."""

    temperature: float = 1.0
    """τ > 0: larger values pay less for the same logit."""

    clip: float = 5.0
    """c > 0: no reward leaves [-c, c] (the authors': 5)."""

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, above=0)
        check_number("clip", self.clip, above=0)

    def __call__(self, logits_expert_is_high_NT: Tensor, grid_NT: Tensor, tokens: TokenBatch) -> Tensor:
        """``[N, T]`` back-filled rewards."""
        rewards_NT = logit_to_reward(logits_expert_is_high_NT, self.temperature, self.clip)
        return backfill(rewards_NT, grid_NT, tokens.completion_mask)
