"""What a run says of itself at its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How it went."""

    HEALTHY = "healthy"
    RECOVERED = "recovered"
    COLLAPSED = "collapsed"


@dataclass(frozen=True)
class Collapse:
    """One collapse.

    Attributes:
        round: finished rounds when it was seen.
        restored: round whose players were put back.
        signs: what was seen, one line each.
    """

    round: int
    restored: int
    signs: str

    def __str__(self) -> str:
        return f"round {self.round}, back to round {self.restored}: {self.signs}"


@dataclass(frozen=True)
class TrainingVerdict:
    """The sum of it.

    Attributes:
        outcome: healthy; recovered, if it went on after every collapse; collapsed, if it was stopped.
        rounds: finished rounds.
        collapses: in order.
        policy_rate_factor: what became of the policy's learning rate.
    """

    outcome: Outcome
    rounds: int
    collapses: tuple[Collapse, ...]
    policy_rate_factor: float

    def __str__(self) -> str:
        if self.outcome is Outcome.HEALTHY:
            return f"Health: no collapse in {self.rounds} rounds."
        lines = "".join(f"\n  {collapse}" for collapse in self.collapses)
        if self.outcome is Outcome.RECOVERED:
            rate = f"the policy's learning rate is {self.policy_rate_factor:.3g} times what was configured"
            return f"Health: {len(self.collapses)} collapses in {self.rounds} rounds, all restored; {rate}.{lines}"
        return (
            f"Health: STOPPED after {self.rounds} rounds. It collapsed {len(self.collapses)} times, the last time at "
            f"{self.policy_rate_factor:.3g} of the policy's learning rate. The players kept and saved are those of "
            f"round {self.collapses[-1].restored}.{lines}"
        )
