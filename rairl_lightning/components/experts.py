"""Whether the demonstration takes part in its prompt's group when the policy is updated."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.functional.advantages import split_groups


class ExpertInGroup(ABC):
    """Whether the demonstration is member G + 1 of its prompt's group, and what it then weighs in the policy's loss."""

    @property
    @abstractmethod
    def joins(self) -> bool:
        """Whether it is a member."""

    @abstractmethod
    def weigh(self, weights_NT: Tensor, is_expert_N: Tensor, group_size: int) -> Tensor:
        """Token weights of the policy's loss.

        Args:
            weights_NT: ``[N, T]`` of the length normalisation, all members alike.
            is_expert_N: ``[N]`` bool.
            group_size: members of a group, the demonstration among them.

        Returns:
            ``[N, T]``.
        """


@dataclass(frozen=True)
class NoExpert(ExpertInGroup):
    """The policy learns from its own rollouts alone."""

    @property
    def joins(self) -> bool:
        """No."""
        return False

    def weigh(self, weights_NT: Tensor, is_expert_N: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` unchanged."""
        return weights_NT


@dataclass(frozen=True)
class SingleExpert(ExpertInGroup):
    """The demonstration is one member among G + 1, and weighs what a rollout weighs (the authors' configurations)."""

    @property
    def joins(self) -> bool:
        """Yes."""
        return True

    def weigh(self, weights_NT: Tensor, is_expert_N: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` unchanged."""
        return weights_NT


@dataclass(frozen=True)
class BalancedExpert(ExpertInGroup):
    r"""The demonstration weighs as much as the G rollouts of its group together.

    ``w'_nt = w_nt (W_R + W_E) / (2 W_c)``, with W_R and W_E the weights of the group's rollouts and of its
    demonstration, and c the class of trace n; a group keeps its weight. With TraceMean the rollouts' weights are
    multiplied by ``(G + 1) / 2G`` and the demonstration's by ``(G + 1) / 2``. Advantages are those of SingleExpert:
    the group's mean counts each member once. Not in the paper; the authors' code has a switch of the name that
    nothing reads.
    """

    @property
    def joins(self) -> bool:
        """Yes."""
        return True

    def weigh(self, weights_NT: Tensor, is_expert_N: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` balanced."""
        totals_BG = split_groups(weights_NT.sum(dim=1), group_size)
        experts_BG = split_groups(is_expert_N, group_size)
        both_B1 = totals_BG.sum(dim=1, keepdim=True)
        expert_B1 = (totals_BG * experts_BG).sum(dim=1, keepdim=True)
        own_BG = torch.where(experts_BG, expert_B1, both_B1 - expert_B1)
        factors_BG = torch.where(own_BG > 0, both_B1 / (2 * own_BG), torch.ones_like(own_BG))
        return weights_NT * factors_BG.reshape(-1, 1)
