"""Marked solutions of the toy language, importable by class path."""

from __future__ import annotations

from dataclasses import dataclass

from rairl_lightning.data.traces.base import LabelledSteps, StepSource


@dataclass(frozen=True)
class MarkedGates(StepSource):
    """The second step goes wrong in every other one; each question twice."""

    count: int = 24

    def solutions(self) -> list[LabelledSteps]:
        return [
            LabelledSteps(
                f"s{n}",
                f"gate {n // 2}",
                ("1 + 2 = 3", "go right" if n % 2 else "go left", "so it is"),
                1 if n % 2 else -1,
                None if n % 3 else "left",
                {"subset": "odd" if n // 2 % 2 else "even", "source": "toy"},
            )
            for n in range(self.count)
        ]
