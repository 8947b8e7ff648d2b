"""What a collapse sign is, and the four kinds of comparison: fallen, risen, above, below. None is in the paper."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from rairl_lightning.callbacks.health.history import History
from rairl_lightning.errors import ConfigError


class Level(IntEnum):
    """How bad it looks; ordered."""

    HEALTHY = 0
    WARNING = 1
    COLLAPSE = 2


class Sign(ABC):
    """Reads one logged metric a round, and says how bad it looks; a reading that is not finite is a collapse."""

    metric: str
    warning: float
    collapse: float
    patience: int
    advice: ClassVar[str] = "read the traces of these rounds, and lower the policy's learning rate"
    held: ClassVar[bool] = False
    """Whether the metric is measured every few rounds only: a value that has not changed is then no new reading."""

    @property
    def excuse(self) -> str | None:
        """Metric which shows, while it is as high as it was, that nothing is wrong; None if there is no excuse."""
        return None

    def level(self, value: float, history: History) -> Level:
        """Level of one reading.

        Args:
            value: the reading.
            history: the healthy readings so far.
        """
        if not math.isfinite(value) or self.beyond(self.collapse, value, history):
            return Level.COLLAPSE
        return Level.WARNING if self.beyond(self.warning, value, history) else Level.HEALTHY

    @abstractmethod
    def beyond(self, limit: float, value: float, history: History) -> bool:
        """Whether the reading is at or past ``limit``."""

    @abstractmethod
    def expected(self, history: History) -> str:
        """What would be healthy, in words for a warning."""

    def __post_init__(self) -> None:
        if not self.metric or self.patience < 1:
            raise self._error("a metric's name and patience >= 1")

    def _error(self, expected: str) -> ConfigError:
        got = f"metric={self.metric!r}, warning={self.warning}, collapse={self.collapse}, patience={self.patience}"
        return ConfigError(f"The sign {type(self).__name__} cannot be read so.", expected=expected, got=got)


@dataclass(frozen=True)
class Falls(Sign):
    """Fallen to a share of the best healthy window, which a slow decline cannot drag along.

    >>> sign, history = Falls("rollouts/format_rate", warning=0.8, collapse=0.5), History(window=4)
    >>> for rate in (0.9, 1.0, 1.0, 1.0):
    ...     history.add(rate)
    >>> [sign.level(rate, history).name for rate in (0.9, 0.7, 0.3)]
    ['HEALTHY', 'WARNING', 'COLLAPSE']
    """

    metric: str
    """Name of the logged metric; positive, higher is healthier."""

    warning: float = 0.7
    """Share of the best healthy window at and under which it warns, in [0, 1)."""

    collapse: float = 0.4
    """Share at and under which it is a collapse, in [0, warning]."""

    patience: int = 3
    """Readings in a row that must be as bad, >= 1."""

    excused_by: str | None = None
    """A metric, such as ``rollouts/agreement``; while it stands as high as in its first window, the fall is taken for
    convergence. null: no excuse."""

    floor: float = 0.0
    """A best window at or under this is too low to tell a fall from noise; >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.collapse <= self.warning < 1 and self.floor >= 0):
            raise self._error("0 <= collapse <= warning < 1, floor >= 0")

    @property
    def excuse(self) -> str | None:
        """``excused_by``."""
        return self.excused_by

    def beyond(self, limit: float, value: float, history: History) -> bool:
        """``value <= limit · best window``."""
        return history.highest > self.floor and value <= limit * history.highest

    def expected(self, history: History) -> str:
        """Above a share of the best window."""
        best = history.highest
        return f"above {self.warning * best:.3g} ({self.warning:g} of the best healthy window, {best:.3g})"


@dataclass(frozen=True)
class Rises(Sign):
    """Risen to a multiple of the first healthy window.

    >>> sign, history = Rises("rollouts/length", warning=2.0, collapse=4.0), History(window=2)
    >>> for length in (90.0, 110.0, 150.0):
    ...     history.add(length)
    >>> [sign.level(length, history).name for length in (150, 200, 400)]
    ['HEALTHY', 'WARNING', 'COLLAPSE']
    """

    metric: str
    """Name of the logged metric; positive, higher is less healthy."""

    warning: float = 2.0
    """Multiple of the first healthy window at and over which it warns, > 1."""

    collapse: float = 4.0
    """Multiple at and over which it is a collapse, >= warning."""

    patience: int = 3
    """Readings in a row that must be as bad, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.warning <= self.collapse:
            raise self._error("1 < warning <= collapse")

    def beyond(self, limit: float, value: float, history: History) -> bool:
        """``value >= limit · first window``."""
        return history.first > 0 and value >= limit * history.first

    def expected(self, history: History) -> str:
        """Under a multiple of the first window."""
        first = history.first
        return f"under {self.warning * first:.3g} ({self.warning:g} times the first healthy window, {first:.3g})"


@dataclass(frozen=True)
class Above(Sign):
    """At or above a level, whatever it was before."""

    metric: str
    """Name of the logged metric; higher is less healthy."""

    warning: float
    """Value at and over which it warns."""

    collapse: float
    """Value at and over which it is a collapse, >= warning."""

    patience: int = 3
    """Readings in a row that must be as bad, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.warning <= self.collapse:
            raise self._error("warning <= collapse")

    def beyond(self, limit: float, value: float, history: History) -> bool:
        """``value >= limit``."""
        return value >= limit

    def expected(self, history: History) -> str:
        """Under the warning level."""
        return f"under {self.warning:g}"


@dataclass(frozen=True)
class Below(Sign):
    """At or below a level, whatever it was before."""

    metric: str
    """Name of the logged metric; higher is healthier."""

    warning: float
    """Value at and under which it warns."""

    collapse: float
    """Value at and under which it is a collapse, <= warning."""

    patience: int = 3
    """Readings in a row that must be as bad, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.collapse <= self.warning:
            raise self._error("collapse <= warning")

    def beyond(self, limit: float, value: float, history: History) -> bool:
        """``value <= limit``."""
        return value <= limit

    def expected(self, history: History) -> str:
        """Above the warning level."""
        return f"above {self.warning:g}"
