"""One sign over the rounds: its baseline, and for how long it has looked bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rairl_lightning.callbacks.health.history import History
from rairl_lightning.callbacks.health.kinds import Level, Sign

EXCUSED = 0.9  # an excuse stands as high as it was if it keeps this share of its first window: the rest is noise


class Watch:
    """Follows one sign. Only readings that look healthy enter the baseline.

    Args:
        sign: what to read and how to judge it.
        window: readings in a window of the baseline, >= 1.
    """

    def __init__(self, sign: Sign, window: int) -> None:
        self.sign, self.window = sign, window
        self.history, self.excuse = History(window), History(window)
        self.value: float | None = None
        self.warning_for = self.collapse_for = 0

    @property
    def level(self) -> Level:
        """What the last ``patience`` readings agree on."""
        if self.collapse_for >= self.sign.patience:
            return Level.COLLAPSE
        return Level.WARNING if self.warning_for >= self.sign.patience else Level.HEALTHY

    def collapsed(self, last: bool) -> bool:
        """Whether to act; after the ``last`` round nothing can confirm a reading of that round, and one is enough."""
        return self.collapse_for >= (1 if last and not self.sign.held else self.sign.patience)

    @property
    def suspicious(self) -> bool:
        """Whether the last reading looked bad, however new that is."""
        return self.warning_for > 0

    @property
    def just_warned(self) -> bool:
        """Whether the last reading is the one that made it a warning."""
        return self.level is Level.WARNING and self.warning_for == self.sign.patience

    def learn(self, metrics: Mapping[str, float]) -> None:
        """Readings of a round in which the policy rested: healthy whatever they are."""
        self._follow_excuse(metrics)
        value = metrics.get(self.sign.metric, math.nan)
        if math.isfinite(value):
            self.value = value
            self.history.add(value)

    def observe(self, metrics: Mapping[str, float]) -> bool:
        """Judge a round; a metric that was not logged is no reading.

        Returns:
            Whether there was a new reading.
        """
        self._follow_excuse(metrics)
        value = metrics.get(self.sign.metric)
        if value is None or (self.sign.held and value == self.value):
            return False
        self.value = value
        level = Level.HEALTHY if self._excused(value) else self.sign.level(value, self.history)
        self.warning_for = self.warning_for + 1 if level >= Level.WARNING else 0
        self.collapse_for = self.collapse_for + 1 if level >= Level.COLLAPSE else 0
        if level is Level.HEALTHY:
            self.history.add(value)
        return True

    def describe(self) -> str:
        """Sign, value and what was expected, in one line."""
        return (
            f"{type(self.sign).__name__}: {self.sign.metric} is {self.value:.3g}, "
            f"expected {self.sign.expected(self.history)}; bad readings in a row: {self.warning_for}"
        )

    def _follow_excuse(self, metrics: Mapping[str, float]) -> None:
        name = self.sign.excuse
        if name is not None and name in metrics:
            self.excuse.add(metrics[name])

    def _excused(self, value: float) -> bool:
        first = self.excuse.first
        return math.isfinite(value) and first > 0 and self.excuse.mean >= EXCUSED * first

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "sign": type(self.sign).__name__,
            "metric": self.sign.metric,
            "history": self.history.state_dict(),
            "excuse": self.excuse.state_dict(),
            "value": self.value,
            "warning_for": self.warning_for,
            "collapse_for": self.collapse_for,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.history.load_state_dict(state["history"])
        self.excuse.load_state_dict(state["excuse"])
        self.value = state["value"]
        self.warning_for, self.collapse_for = state["warning_for"], state["collapse_for"]

    def go_back(self, state: dict[str, Any]) -> None:
        """Forget what came after ``state``, but not that the present value of a held metric has been read.

        It stays logged until it is measured again, and it is of a discriminator that is gone.
        """
        read = self.value
        self.load_state_dict(state)
        if self.sign.held:
            self.value = read
