"""Learning-rate schedules: a factor for each update of one player, never stepped by Lightning."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number


class Schedule(ABC):
    """Maps an update counter to a factor on the configured learning rate."""

    @abstractmethod
    def factor(self, update: int, total: int) -> float:
        """Factor in [0, 1] for update number ``update`` (from 0) of about ``total``."""


@dataclass(frozen=True)
class Constant(Schedule):
    """Linear warm-up over a number of updates, then constant.

    >>> [Constant(warmup_updates=2).factor(u, 10) for u in range(3)]
    [0.5, 1.0, 1.0]
    """

    warmup_updates: int = 0
    """Updates until the full learning rate is reached, >= 0."""

    def __post_init__(self) -> None:
        check_number("warmup_updates", self.warmup_updates, at_least=0)

    def factor(self, update: int, total: int) -> float:
        """``min(1, (update + 1) / warmup_updates)``."""
        return min(1.0, (update + 1) / self.warmup_updates) if self.warmup_updates else 1.0


@dataclass(frozen=True)
class CosineWithWarmup(Schedule):
    """Linear warm-up over a share of all updates, then half a cosine down to ``floor``.

    >>> schedule = CosineWithWarmup(warmup=0.1, floor=0.1)
    >>> [round(schedule.factor(u, 100), 3) for u in (0, 9, 10, 55, 100, 200)]
    [0.1, 1.0, 1.0, 0.55, 0.1, 0.1]
    """

    warmup: float = 0.1
    """Share of all updates spent warming up, in [0, 1)."""
    floor: float = 0.0
    """Factor at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.floor <= 1):
            raise ConfigError(
                "The cosine schedule is out of range.",
                expected="0 <= warmup < 1 and 0 <= floor <= 1",
                got=f"warmup={self.warmup}, floor={self.floor}",
            )

    def factor(self, update: int, total: int) -> float:
        """``floor + (1 - floor) · ½(1 + cos π·progress)`` after the warm-up."""
        warm = math.ceil(self.warmup * total - 1e-9)  # 0.1 * 70 is a little more than 7
        if update < warm:
            return (update + 1) / warm
        progress = min(1.0, (update - warm) / max(1, total - warm))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
