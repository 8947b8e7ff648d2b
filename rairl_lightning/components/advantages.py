"""How rewards become advantages: a baseline each, and a scale where they leave it open."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.components.base import Advantage
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.advantages import group_normalised_advantages, trajectory_mean
from rairl_lightning.functional.grid import backfill
from rairl_lightning.functional.returns import discounted_to_go, group_centred, group_spread, leave_one_out
from rairl_lightning.functional.segments import segment_change


class Scaling(ABC):
    """What centred advantages are divided by."""

    @abstractmethod
    def __call__(self, advantages_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` scaled advantages, 0 outside the completion."""


@dataclass(frozen=True)
class NoScaling(Scaling):
    """Nothing: the reward's own unit (Dr. GRPO, arXiv 2503.20783)."""

    def __call__(self, advantages_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` unchanged."""
        return advantages_NT


@dataclass(frozen=True)
class GroupScaling(Scaling):
    """The population deviation within the group; every group moves the policy alike, easy or hard (GRPO)."""

    eps: float = 1e-4
    """> 0, in units of reward."""

    def __post_init__(self) -> None:
        check_number("eps", self.eps, above=0)

    def __call__(self, advantages_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` scaled."""
        return advantages_NT / (group_spread(advantages_NT, completion_mask_NT, group_size) + self.eps).unsqueeze(1)


@dataclass(frozen=True)
class BatchScaling(Scaling):
    """The population deviation over all traces of the process: a flat group is not blown up (arXiv 2501.03262)."""

    eps: float = 1e-4
    """> 0, in units of reward."""

    def __post_init__(self) -> None:
        check_number("eps", self.eps, above=0)

    def __call__(self, advantages_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
        """``[N, T]`` scaled."""
        return GroupScaling(self.eps)(advantages_NT, completion_mask_NT, len(advantages_NT))


@dataclass(frozen=True)
class GroupNormalised(Advantage):
    """``A_n = (R_n - mean_G R) / (std_G R + eps)``, R the mean reward over a trace's completion tokens (GRPO)."""

    eps: float = 1e-4
    """>= 0, in units of reward: damps groups whose traces are paid almost alike."""

    def __post_init__(self) -> None:
        check_number("eps", self.eps, at_least=0)

    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """``[N, T]`` advantages."""
        return group_normalised_advantages(rewards_NT, completion_mask_NT, group_size, self.eps)


@dataclass(frozen=True)
class GroupCentred(Advantage):
    """``A_n = R_n - mean_G R``, scaled. With GroupScaling it is GroupNormalised, with NoScaling Dr. GRPO's."""

    scaling: Scaling = NoScaling()
    """What it is divided by: NoScaling, GroupScaling or BatchScaling."""

    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """``[N, T]`` advantages."""
        means_NT = trajectory_mean(rewards_NT, completion_mask_NT).unsqueeze(1) * completion_mask_NT
        centred_NT = group_centred(means_NT, completion_mask_NT, group_size)
        return self.scaling(centred_NT, completion_mask_NT, group_size)


@dataclass(frozen=True)
class LeaveOneOut(Advantage):
    """``A_n = R_n - mean of the others' R``, scaled (RLOO): the baseline does not depend on the trace itself."""

    scaling: Scaling = NoScaling()
    """What it is divided by: NoScaling, GroupScaling or BatchScaling."""

    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """``[N, T]`` advantages."""
        advantages_N = leave_one_out(trajectory_mean(rewards_NT, completion_mask_NT), group_size)
        return self.scaling(advantages_N.unsqueeze(1) * completion_mask_NT, completion_mask_NT, group_size)


@dataclass(frozen=True)
class RewardToGo(Advantage):
    """``A_t = Σ_{s >= t} γ^{s-t} (r_s - b)``, b the mean reward of the group's traces, scaled.

    The rewards are centred *before* they are summed, so a trace that is paid the average earns nothing for its
    length.
    """

    discount: float = 0.9
    """γ in [0, 1], a token (the authors': 0.9); 0 leaves every token its own reward."""

    scaling: Scaling = BatchScaling()
    """What it is divided by: BatchScaling, GroupScaling or NoScaling."""

    def __post_init__(self) -> None:
        check_number("discount", self.discount, at_least=0, at_most=1)

    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """``[N, T]`` advantages."""
        centred_NT = group_centred(rewards_NT, completion_mask_NT, group_size)
        to_go_NT = discounted_to_go(centred_NT, completion_mask_NT, self.discount)
        return self.scaling(to_go_NT, completion_mask_NT, group_size)


class SegmentSignal(ABC):
    """What a segment says of itself, read from its reward."""

    @abstractmethod
    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` back-filled, 0 outside the completion."""


@dataclass(frozen=True)
class Drop(SegmentSignal):
    """``min(0, r_k - r_{k-1})``: only the step that made things worse is blamed."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` in (-∞, 0]."""
        return segment_change(rewards_NT, grid_NT, completion_mask_NT).clamp(max=0)


@dataclass(frozen=True)
class ClippedChange(SegmentSignal):
    """``clip(r_k - r_{k-1}, -c, c)``: blame for a drop, praise for a rise."""

    clip: float = 1.0
    """c > 0, in units of reward."""

    def __post_init__(self) -> None:
        check_number("clip", self.clip, above=0)

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` in [-c, c]."""
        return segment_change(rewards_NT, grid_NT, completion_mask_NT).clamp(-self.clip, self.clip)


@dataclass(frozen=True)
class Level(SegmentSignal):
    """``r_k`` itself."""

    def __call__(self, rewards_NT: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` rewards."""
        return backfill(rewards_NT, grid_NT, completion_mask_NT)


@dataclass(frozen=True)
class SegmentBonus(Advantage):
    """``A_t = base_t + w (signal_k(t) - b)``, b the mean signal of the group's traces.

    The signal is read from the reward: with a critic that pays f (``ReadF``) ``Drop`` is the drop in f, with one
    that pays g ``Level`` is g.
    """

    base: Advantage = GroupNormalised()
    """Advantage of the trace as a whole."""

    signal: SegmentSignal = Drop()
    """What a segment adds: Drop, ClippedChange or Level."""

    weight: float = 0.1
    """w >= 0, in units of the base's advantage a unit of reward."""

    def __post_init__(self) -> None:
        check_number("weight", self.weight, at_least=0)

    def __call__(
        self, rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None
    ) -> Tensor:
        """``[N, T]`` advantages."""
        grid_NT = completion_mask_NT if grid_NT is None else grid_NT
        signal_NT = self.signal(rewards_NT, grid_NT, completion_mask_NT)
        bonus_NT = group_centred(signal_NT, completion_mask_NT, group_size)
        return self.base(rewards_NT, completion_mask_NT, group_size, grid_NT) + self.weight * bonus_NT
