"""The readings of one metric, as far as a sign compares with them."""

from __future__ import annotations

from statistics import fmean
from typing import Any


class History:
    """Rolling means over a window: of the last readings, of the first ones, and the highest there was.

    While fewer readings than a window have come, their mean stands for the window, so that a collapse in the first
    rounds has something to be compared with.

    Args:
        window: readings in a window, >= 1.

    >>> history = History(window=2)
    >>> for value in (1.0, 3.0, 5.0, 0.0):
    ...     history.add(value)
    >>> history.first, history.highest, history.mean
    (2.0, 4.0, 2.5)
    """

    def __init__(self, window: int) -> None:
        self.window, self.seen = window, 0
        self.recent: list[float] = []
        self.first = self.highest = 0.0

    @property
    def mean(self) -> float:
        """Of the last window; 0 before the first reading."""
        return fmean(self.recent) if self.recent else 0.0

    def add(self, value: float) -> None:
        """One reading more."""
        self.seen += 1
        self.recent = [*self.recent, value][-self.window :]
        self.highest = self.mean if self.seen == 1 else max(self.highest, self.mean)
        if self.seen <= self.window:
            self.first = self.mean

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"seen": self.seen, "recent": list(self.recent), "first": self.first, "highest": self.highest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.seen, self.recent = state["seen"], list(state["recent"])
        self.first, self.highest = state["first"], state["highest"]
