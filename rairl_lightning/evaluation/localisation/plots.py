"""Three pictures of a localisation, each beside a CSV of the numbers in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rairl_lightning.evaluation.localisation.natural import ScoredSteps
from rairl_lightning.evaluation.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, Row
from rairl_lightning.functional.first_error import accuracy_curve, harmonic_mean, right_thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"reward": BLUE, "logprob_drop": PURPLE, "entropy_spike": GREEN, "chance": GREY}
MOST_THRESHOLDS = 2000
"""Rows of the curve; of more thresholds so many are taken evenly."""


def hit_rows(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Hit@1 of each method at each level."""
    for method, levels in figures["hit@1"].items():
        for level, (hit, low, high) in levels.items():
            yield {"method": method, "level": level, "hit@1": hit, "low": low, "high": high}


def draw_hits(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars by level, side by side, with 95 % intervals."""
    levels = list(dict.fromkeys(row["level"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    width = 0.8 / max(1, len(methods))
    for number, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        places = [place + (number - (len(methods) - 1) / 2) * width for place in range(len(own))]
        heights = [100 * row["hit@1"] for row in own]
        # A percentile interval may end a rounding step inside of its estimate.
        below = [max(0.0, 100 * (row["hit@1"] - row["low"])) for row in own]
        above = [max(0.0, 100 * (row["high"] - row["hit@1"])) for row in own]
        axes.bar(places, heights, width, color=COLOURS[method], label=method.replace("_", " "))
        axes.errorbar(places, heights, [below, above], fmt="none", color="black", linewidth=0.8, capsize=2)
    axes.set_xticks(range(len(levels)), [level.replace("_", " ") for level in levels], fontsize="small")
    axes.set(ylabel="Hit@1 (%)", ylim=(0, 100))
    axes.set_title("Corrupted traces: does the largest drop hit? 95 % intervals", fontsize="medium")
    axes.legend(fontsize="small")


def threshold_rows(solutions: ScoredSteps, method: str = "reward") -> list[Row]:
    """Accuracies and F1 of the thresholds that make a difference, over all solutions."""
    wrong_N = solutions.labels_N >= 0
    ends = right_thresholds(solutions.scores[method], solutions.steps_NK, solutions.labels_N)
    thresholds, erroneous, correct = accuracy_curve(*ends, wrong_N)
    stride = -(-len(thresholds) // MOST_THRESHOLDS)
    columns = (thresholds, harmonic_mean(erroneous, correct), erroneous, correct)
    names = ("threshold", "f1", "accuracy_erroneous", "accuracy_correct")
    return [
        dict(zip(names, (round(value, 6) for value in values), strict=True))
        for values in zip(*(column[::stride].tolist() for column in columns), strict=True)
    ]


def draw_thresholds(axes: Axes, rows: Sequence[Row]) -> None:
    """F1 and its two parts."""
    x = [row["threshold"] for row in rows]
    parts = (("f1", BLUE, "-"), ("accuracy_erroneous", VERMILION, "--"), ("accuracy_correct", ORANGE, ":"))
    for name, colour, line in parts:
        axes.plot(x, [100 * row[name] for row in rows], color=colour, linestyle=line, label=name.replace("_", " "))
    axes.set(xlabel="a step is wrong if its reward is below", ylabel="%", ylim=(0, 100))
    axes.set_title("First wrong step against the threshold", fontsize="medium")
    axes.legend(fontsize="small")


def offset_rows(solutions: ScoredSteps, predicted_N: Tensor) -> list[Row]:
    """How many steps off the prediction is, on the erroneous solutions in which a step was found."""
    found = (solutions.labels_N >= 0) & (predicted_N >= 0)
    counts = Counter((predicted_N - solutions.labels_N)[found].tolist())
    return [{"predicted_minus_true": offset, "solutions": counts[offset]} for offset in sorted(counts)]


def draw_offsets(axes: Axes, rows: Sequence[Row]) -> None:
    """Histogram; 0 is right."""
    places, heights = [row["predicted_minus_true"] for row in rows], [row["solutions"] for row in rows]
    axes.bar(places, heights, color=[BLUE if place == 0 else GREY for place in places])
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="predicted less true first wrong step", ylabel="erroneous solutions")
    axes.set_title("How far off the predicted step is", fontsize="medium")
