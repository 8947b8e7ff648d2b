"""The runs that differ by their seed only, taken together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablation_ledger import Ledger, Line

# 97.5 % quantiles of Student's t, by degrees of freedom; beyond the last the interval is a little too wide.
T_QUANTILES = (12.70621, 4.30266, 3.18245, 2.77645, 2.57059, 2.44692, 2.36463, 2.30601, 2.26216)

NAMES = ("stage", "algorithm", "granularity", "head", "loss")


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; NaN where it is not defined.

    Args:
        mean: of one run, or over the seeds.
        low: lower end.
        high: upper end.
        seeds: how many runs it is the mean of.
    """

    mean: float
    low: float
    high: float
    seeds: int = 1

    @property
    def half(self) -> float:
        """The longer side of the interval."""
        return max(self.mean - self.low, self.high - self.mean)


@dataclass
class Group:
    """The seeds of one configuration.

    Args:
        stage: start, discriminator or policy.
        algorithm: as the run names it.
        granularity: empty where there is none.
        head: likewise.
        loss: likewise.
        figures: by metric, over the seeds that ended well.
        runs: those seeds' lines.
        failed: seeds that did not end well.
    """

    stage: str
    algorithm: str
    granularity: str
    head: str
    loss: str
    figures: dict[str, Figure] = field(default_factory=dict)
    runs: list[Line] = field(default_factory=list)
    failed: int = 0

    @property
    def name(self) -> str:
        """What the rows and the verdicts call it."""
        return " ".join(part for part in (self.algorithm, self.granularity, self.head, self.loss) if part)


def over_seeds(figures: Sequence[Figure]) -> Figure:
    """One figure for S runs that differ by their seed and are measured on the same questions.

    ``mean = 1/S Σ m_s``; ``high = mean + sqrt(W² + B²)`` with ``W² = 1/S Σ (high_s − m_s)²`` and
    ``B = t_{0.975, S−1} · sd(m_s) / √S``, ``sd`` with S − 1 in its denominator; ``low`` likewise with ``m_s − low_s``.
    Not in the paper.

    Two levels: W is how much the mean depends on the questions, B how much it depends on the seed. W is *not* divided
    by √S: the questions are the same for every seed, so another seed tells nothing new about them. B takes Student's
    t because there are few seeds: of 3 seeds, 4.3 standard errors. A single seed has no B, so its interval is the
    run's own and too narrow for what another seed would give; the tables say how many seeds there were. The ends are
    not cut to [0, 1].

    Args:
        figures: one a seed, S >= 1.

    Returns:
        The mean with its interval; NaN if a seed's figure is not defined, rather than the mean of the others.

    >>> over_seeds([Figure(0.5, 0.4, 0.6), Figure(0.5, 0.4, 0.6)])
    Figure(mean=0.5, low=0.4, high=0.6, seeds=2)
    """
    count = len(figures)
    mean = math.fsum(figure.mean for figure in figures) / count
    between = 0.0
    if count > 1:
        variance = math.fsum((figure.mean - mean) ** 2 for figure in figures) / (count - 1)
        quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
        between = quantile * math.sqrt(variance / count)

    def side(ends: Iterable[float]) -> float:
        return math.hypot(math.sqrt(math.fsum(end**2 for end in ends) / count), between)

    low = mean - side(figure.mean - figure.low for figure in figures)
    high = mean + side(figure.high - figure.mean for figure in figures)
    return Figure(mean, low, high, count)


def group_runs(ledger: Ledger) -> list[Group]:
    """The groups of a ledger, in the order in which their first runs ended."""
    groups: dict[tuple[str, ...], Group] = {}
    for line in [*ledger.finished().values(), *ledger.failed().values()]:
        names = tuple(line[name] for name in NAMES)
        group = groups.setdefault(names, Group(*names))
        if "error" in line:
            group.failed += 1
        else:
            group.runs.append(line)
    for group in groups.values():
        group.figures = {metric: over_seeds(figures) for metric, figures in _by_metric(group.runs).items()}
    return list(groups.values())


def results(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The rows of ``results/ablation.json``: each run and metric, then each group and metric with ``seed`` None."""
    rows = []
    for group in groups:
        names = {name: getattr(group, name) for name in NAMES if name != "stage"}
        for line in group.runs:
            figures = {measurement["metric"]: _figure(measurement) for measurement in line["measurements"]}
            rows += [_row(names, line["seed"], metric, figure, _code(line)) for metric, figure in figures.items()]
        codes = " ".join(sorted({_code(line) for line in group.runs}))
        rows += [_row(names, None, metric, figure, codes) for metric, figure in group.figures.items()]
    return rows


def _by_metric(lines: Sequence[Line]) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = {}
    for line in lines:
        for measurement in line["measurements"]:
            figures.setdefault(measurement["metric"], []).append(_figure(measurement))
    return figures


def _figure(measurement: dict[str, Any]) -> Figure:
    mean, low, high = (math.nan if measurement[end] is None else measurement[end] for end in ("mean", "low", "high"))
    return Figure(mean, low, high)


def _row(names: dict[str, str], seed: int | None, metric: str, figure: Figure, code: str) -> dict[str, Any]:
    ends = {"mean": figure.mean, "low": figure.low, "high": figure.high}
    return {**names, "seed": seed, "metric": metric, **ends, "commit": code}


def _code(line: Line) -> str:
    return line["commit"] + ("-dirty" if line["dirty"] else "")
