"""What a scored file holds, counted line by line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from rairl_lightning.errors import CheckpointError
from rairl_lightning.evaluation.scoring import PROBLEMS, TraceScore
from rairl_lightning.text.graders import Grade


@dataclass
class Tally:
    """Running figures of scored traces; plain values in and out, so that an interrupted file goes on counting.

    Attributes:
        traces: that were read.
        scored: that got a reward.
        tokens: of the completions.
        grades: traces of each grade.
        problems: traces that have each problem; one may have several.
        sums: count, sum and sum of squares of the rewards of each grade.
    """

    traces: int = 0
    scored: int = 0
    tokens: int = 0
    grades: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    sums: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def read(cls, notes: Mapping[str, Any]) -> Tally:
        """What :meth:`notes` gave; an empty mapping starts anew.

        Raises:
            CheckpointError: it gave something else.
        """
        if not notes:
            return cls()
        try:
            traces, scored, tokens = (_number(notes[name]) for name in ("traces", "scored", "tokens"))
            grades, problems = (
                Counter({key: _number(count) for key, count in notes[name].items()}) for name in ("grades", "problems")
            )
            sums = {grade: [*map(_number, (count, *rest))] for grade, (count, *rest) in notes["sums"].items()}
            if any(len(numbers) != len(("count", "sum", "squares")) for numbers in sums.values()):
                raise ValueError("sums are three numbers each")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                "The figures of the lines already written cannot be read.",
                expected="those that were noted beside the file",
                got=f"{type(error).__name__}: {error}",
                remedy="give another --out, or start anew with --overwrite true",
            ) from error
        return cls(traces, scored, tokens, grades, problems, sums)

    def notes(self) -> dict[str, Any]:
        """Plain values."""
        counters = {name: dict(getattr(self, name)) for name in ("grades", "problems")}
        return {"traces": self.traces, "scored": self.scored, "tokens": self.tokens, **counters, "sums": self.sums}

    def add(self, scores: Iterable[TraceScore]) -> None:
        """Count some more."""
        for one in scores:
            self.traces += 1
            self.tokens += len(one.ids.completion_ids)
            grade = one.trace.grade.value
            self.grades[grade] += 1
            self.problems.update(one.problems)
            if one.reward is not None:
                self.scored += 1
                count, total, squares = self.sums.get(grade, [0, 0.0, 0.0])
                self.sums[grade] = [count + 1, total + one.reward, squares + one.reward**2]

    def figures(self) -> dict[str, Any]:
        """Counts, and mean and standard deviation of the trace reward, in all and by grade."""
        every = [sum(column) for column in zip(*self.sums.values(), strict=True)]
        groups = {"all": every, **{grade.value: self.sums.get(grade.value, []) for grade in Grade}}
        return {
            "traces": self.traces,
            "scored": self.scored,
            "completion_tokens": self.tokens,
            "grades": {grade.value: self.grades[grade.value] for grade in Grade},
            "problems": {name: self.problems[name] for name in PROBLEMS},
            "reward": {name: _moments(*sums) for name, sums in groups.items() if sums},
        }


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def print_tally(figures: Mapping[str, Any], console: Console) -> None:
    """Two tables: rewards by grade, and what was odd."""
    table = Table("grade")
    for column in ("traces", "scored", "mean reward", "deviation"):
        table.add_column(column, justify="right", no_wrap=True)
    numbers = {"all": figures["traces"], **figures["grades"]}
    for name, number in numbers.items():
        if number:
            own = figures["reward"].get(name, {"scored": 0})
            moments = [f"{own[key]:+.3f}" if key in own else "–" for key in ("mean", "deviation")]
            table.add_row(name, str(number), str(own["scored"]), *moments)
    console.print(table)
    for name, count in figures["problems"].items():
        if count:
            console.print(f"{count} {name}: {PROBLEMS[name]}", highlight=False)


def _moments(count: float, total: float, squares: float) -> dict[str, float]:
    mean = total / count
    return {"scored": int(count), "mean": mean, "deviation": math.sqrt(max(0.0, squares / count - mean**2))}
