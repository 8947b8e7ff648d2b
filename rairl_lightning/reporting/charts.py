"""Charts as numbers for a template: scales, ticks and points of an inline SVG, which needs no script to be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rairl_lightning.reporting.events import Phase, thinned

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 20, 34
MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: in the legend.
        points: ``(x, y)`` in order of x.
        style: number of its colour and marker, 0-6.
        against: whether it is another run's, dashed.
        bounds: ``(low, high)`` for every point, or none.
        markers: whether every point is marked.
        joined: whether the points are joined.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    against: bool = False
    bounds: Sequence[tuple[float, float]] = ()
    markers: bool = False
    joined: bool = True


class Tick(NamedTuple):
    """A place on an axis, in units of the picture, and its label."""

    at: float
    label: str


class Line(NamedTuple):
    """A series in units of the picture."""

    series: Series
    path: str
    marks: list[tuple[float, float]]
    whiskers: list[tuple[float, float, float]]


@dataclass(frozen=True)
class Chart:
    """All that the template draws."""

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    phases: list[tuple[str, float, float]]
    diagonal: tuple[float, float, float, float] | None
    hover: list[dict[str, object]]


@dataclass(frozen=True)
class Scale:
    """From numbers to places.

    >>> Scale(0, 10, 100, 200)(2.5), Scale(2, 8, 0, 100, log2=True)(4)
    (125.0, 50.0)
    """

    low: float
    high: float
    start: float
    end: float
    log2: bool = False

    def __call__(self, value: float) -> float:
        """The place of a number."""
        low, high, value = (math.log2(one) if self.log2 else one for one in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    *,
    phases: Sequence[Phase] = (),
    y_range: tuple[float, float] | None = None,
    log2: bool = False,
    diagonal: bool = False,
) -> Chart:
    """Lay out a chart.

    Args:
        title: above it.
        series: at least one point in all.
        x_label: below it.
        phases: stretches of x to mark.
        y_range: of the axis; what is there, without it.
        log2: whether x doubles at equal distances; its ticks are then the points.
        diagonal: draw y = x.
    """
    series = [Series(**{**vars(one), "points": thinned(one.points, MOST_POINTS)}) if not one.bounds else one
              for one in series if one.points]  # fmt: skip
    xs = [x for one in series for x, _ in one.points] + [edge for one in phases for edge in (one.start, one.end)]
    ys = [y for one in series for _, y in one.points] + [edge for one in series for pair in one.bounds for edge in pair]
    low, high = y_range or _padded(min(ys), max(ys))
    x = Scale(*((0.0, 1.0) if diagonal else (min(xs), max(xs))), LEFT, WIDTH - RIGHT, log2)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    x_values = sorted(set(xs)) if log2 else ticks(x.low, x.high, 5)
    return Chart(
        title,
        x_label,
        [_line(one, x, y) for one in series],
        [Tick(x(value), number(value)) for value in x_values],
        [Tick(y(value), number(value)) for value in ticks(low, high, 5)],
        [(one.name, x(one.start), x(one.end)) for one in phases],
        (x(0), y(0), x(1), y(1)) if diagonal else None,
        [{"name": one.name, "x": [a for a, _ in one.points], "y": [float(f"{b:.4g}") for _, b in one.points]}
         for one in series],
    )  # fmt: skip


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two bounds.

    >>> ticks(0, 1, 5), ticks(3, 3, 5)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [3])
    """
    if not high > low:
        return [low]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def number(value: float) -> str:
    """As short as an axis wants it.

    >>> number(0.25), number(1200.0), number(0.0002), number(0.00025)
    ('0.25', '1200', '2e-4', '2.5e-4')
    """
    if value == round(value) and abs(value) < 1e5:
        return f"{value:.0f}"
    if abs(value) >= 1e-3:
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin if low < 0 or low > margin else min(low, 0.0), high + margin


def _line(series: Series, x: Scale, y: Scale) -> Line:
    places = [(x(a), y(b)) for a, b in series.points]
    path = "M" + "L".join(f"{a:g} {b:g}" for a, b in places) if series.joined else ""
    lone = len(places) == 1
    whiskers = [(at, y(low), y(high)) for (at, _), (low, high) in zip(places, series.bounds, strict=False)]
    return Line(series, path, places if series.markers or lone else [], whiskers)
