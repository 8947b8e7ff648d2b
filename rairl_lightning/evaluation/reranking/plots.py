"""Three pictures of a reranking, each beside a CSV of the numbers in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rairl_lightning.evaluation.plots import Row, uncluttered, write_plot
from rairl_lightning.evaluation.reranking.report import RerankingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with any colour vision, each with a marker of its own for print.
STYLES = {
    "reward": ("#0072B2", "o"),
    "weighted": ("#56B4E9", "s"),
    "majority": ("#E69F00", "^"),
    "logprob": ("#CC79A7", "v"),
    "shortest": ("#D55E00", "D"),
    "random": ("#000000", "x"),
    "oracle": ("#009E73", "P"),
}
SPOKEN = {"weighted": "weighted vote", "logprob": "log-probability"}
RIGHT, WRONG = "#0072B2", "#D55E00"
PLOTS = ("accuracy", "reliability", "rewards")
"""Names of the files, ``.png`` and ``.csv`` each."""


def write_plots(folder: Path, report: RerankingReport) -> None:
    """Write :data:`PLOTS` into a folder.

    Args:
        folder: exists.
        report: what to draw.
    """
    for name, rows, draw in (
        ("accuracy", list(accuracy_rows(report)), draw_accuracy),
        ("reliability", list(reliability_rows(report)), draw_reliability),
        ("rewards", list(reward_rows(report)), draw_rewards),
    ):
        write_plot(folder, name, rows, draw)


def accuracy_rows(report: RerankingReport) -> Iterator[Row]:
    """Accuracy of each rule at each N."""
    for n, sections in report.best_of.items():
        yield from choice_rows(n, sections["all"]["right"], sections["all"]["questions"])


def choice_rows(n: str, rules: Mapping[str, Sequence[float]], questions: int) -> Iterator[Row]:
    """Accuracy of each rule at one N.

    Args:
        n: traces to choose from.
        rules: ``[value, low, high]`` by rule.
        questions: how many these are of.
    """
    for rule, (right, low, high) in rules.items():
        yield {"n": int(n), "rule": rule, "right": right, "low": low, "high": high, "questions": questions}


def reliability_rows(report: RerankingReport) -> Iterator[Row]:
    """The reliability curve before and after calibration."""
    for when in ("before", "after"):
        yield from bin_rows(when, report.calibration[when]["curve"])


def bin_rows(when: str, curve: Sequence[Row]) -> Iterator[Row]:
    """The bins of one reliability curve.

    Args:
        when: before or after calibration.
        curve: as :func:`~rairl_lightning.evaluation.calibration.reliability` gives it.
    """
    for one in curve:
        right, low, high = one["right"]
        yield {"calibration": when, **one, "right": right, "right_low": low, "right_high": high}


def reward_rows(report: RerankingReport) -> Iterator[Row]:
    """How many right and wrong traces have a reward in each bin."""
    edges = report.rewards["edges"]
    counts = zip(edges, edges[1:], report.rewards["right"], report.rewards["wrong"], strict=False)
    for low, high, right, wrong in counts:
        yield {"low": low, "high": high, "right": right, "wrong": wrong}


def draw_accuracy(axes: Axes, rows: Sequence[Row]) -> None:
    """Lines over N; the 95 % interval of the reward alone, since seven bands hide each other."""
    for rule, (colour, marker) in STYLES.items():
        own = [row for row in rows if row["rule"] == rule]
        if own:
            n, right = [row["n"] for row in own], [100 * row["right"] for row in own]
            width, order = (2.4, 3) if rule == "reward" else (1.2, 2)
            (line,) = axes.plot(n, right, color=colour, marker=marker, label=SPOKEN.get(rule, rule))
            line.set(linewidth=width, zorder=order, markersize=5)
            if rule == "reward":
                low, high = [100 * row["low"] for row in own], [100 * row["high"] for row in own]
                axes.fill_between(n, low, high, color=colour, alpha=0.15, linewidth=0)
    if rows:
        sizes = sorted({row["n"] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set(xlabel="traces to choose from (N)", ylabel="questions answered right (%)")
    axes.set_title("Best of N; the band is the reward's 95 % interval", fontsize="medium")
    uncluttered(axes)


def draw_reliability(axes: Axes, rows: Sequence[Row]) -> None:
    """Share right over probability; the diagonal is perfect, a larger dot is more traces."""
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="perfect")
    most = max((row["traces"] for row in rows), default=1)
    for when, colour, marker in (("before", WRONG, "s"), ("after", RIGHT, "o")):
        own = [row for row in rows if row["calibration"] == when]
        if own:
            x, y = [row["probability"] for row in own], [row["right"] for row in own]
            # A percentile interval may end a rounding step inside of its estimate.
            below = [max(0.0, row["right"] - row["right_low"]) for row in own]
            above = [max(0.0, row["right_high"] - row["right"]) for row in own]
            axes.errorbar(x, y, yerr=[below, above], color=colour, linestyle="none", elinewidth=0.8, capsize=2)
            sizes = [12 + 80 * row["traces"] / most for row in own]
            label = f"{when} calibration"
            axes.scatter(x, y, s=sizes, color=colour, marker=marker, label=label, clip_on=False, zorder=3)
    axes.set(xlabel="probability of being right", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability, with 95 % intervals; a larger mark is more traces", fontsize="medium")
    axes.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(0, 0.98))
    uncluttered(axes)


def draw_rewards(axes: Axes, rows: Sequence[Row]) -> None:
    """Histograms of right and wrong traces, each with an area of one."""
    edges = [row["low"] for row in rows] + [row["high"] for row in rows[-1:]]
    for name, colour, line in (("right", RIGHT, "-"), ("wrong", WRONG, "--")):
        total = sum(row[name] for row in rows)
        if total:
            density = [row[name] / total / (row["high"] - row["low"]) for row in rows]
            axes.stairs(density, edges, color=colour, linestyle=line, label=f"{name} ({total:,} traces)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    axes.set(xlabel="pooled reward of a trace", ylabel="density")
    axes.set_title("Rewards of right and wrong traces", fontsize="medium")
