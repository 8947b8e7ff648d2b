"""Curves of a run from its TensorBoard event files, and the phases they show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rairl_lightning.evaluation.run_folder import EARLIER
from rairl_lightning.reporting.files import Notes

Curve = tuple[tuple[int, float], ...]
KEPT = 4000
"""Points of a curve that are read; of more a sample, which has the last."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training steps.

    Attributes:
        name: sft, warm-up or adversarial.
        start: first step.
        end: last step.
    """

    name: str
    start: int
    end: int


def read_curves(run: Path, notes: Notes) -> dict[str, Curve]:
    """Every scalar of the run by its tag, ``(step, value)`` in order of steps; values that are not finite are dropped.

    A run that was resumed has several event files: from the first step of a later one on, the earlier ones are not
    read; nor is what another run left in the folder. ``rairl test`` has a file of its own, which takes nothing back.
    ``hp/…`` is left out: other curves say the same.
    """
    found = (file for file in run.rglob("events.out.tfevents*") if EARLIER not in file.relative_to(run).parts)
    files = sorted(found, key=lambda file: (file.name, str(file)))
    curves: dict[str, dict[int, float]] = {}
    for file in files:
        read = _read(file, notes)
        start = min((step for points in read.values() for step, _ in points), default=None)
        if start is None:
            continue
        trained = any(not tag.startswith("test/") and tag != "epoch" for tag in read)
        for points in curves.values() if trained else ():
            for step in [step for step in points if step >= start]:
                del points[step]
        for tag, pairs in read.items():
            curves.setdefault(tag, {}).update(pairs)
    return {tag: tuple(sorted(points.items())) for tag, points in sorted(curves.items()) if points}


def _read(file: Path, notes: Notes) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # takes a second

    try:
        events = EventAccumulator(str(file), size_guidance={"scalars": KEPT, "tensors": 1}).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("hp/")]
        read = {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}
    except (OSError, ValueError, KeyError) as error:
        notes.add(f"{file.name} cannot be read: {error}.")
        return {}
    return {tag: [(step, value) for step, value in points if math.isfinite(value)] for tag, points in read.items()}


def phases_of(curves: Mapping[str, Curve]) -> tuple[Phase, ...]:
    """Where each phase lies, by what is logged in it: ``sft/loss``; rounds that do not count; rounds that do."""
    rounds = curves.get("round", ())
    steps = {
        "sft": [step for step, _ in curves.get("sft/loss", ())],
        "warm-up": [step for step, value in rounds if value == 0],
        "adversarial": [step for step, value in rounds if value > 0],
    }
    return tuple(Phase(name, min(own), max(own)) for name, own in steps.items() if own)


def thinned(points: Iterable[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most about so many points: of each stretch the lowest and the highest, so that no peak is lost.

    >>> thinned([(0, 1), (1, 9), (2, 1), (3, 1), (4, 0), (5, 1)], 4)
    [(0, 1), (1, 9), (3, 1), (4, 0), (5, 1)]
    """
    points = list(points)
    if len(points) <= most:
        return points
    size = -(-2 * len(points) // most)
    kept = {0: points[0], len(points) - 1: points[-1]}
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        for place in (min(stretch, key=lambda at: points[at][1]), max(stretch, key=lambda at: points[at][1])):
            kept[place] = points[place]
    return [kept[place] for place in sorted(kept)]
