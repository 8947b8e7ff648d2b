"""A localisation as tables for people: per cent, 95 % bootstrap intervals over questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from rairl_lightning.evaluation.overlap import warn_of_overlap
from rairl_lightning.evaluation.summary import print_rows
from rairl_lightning.text.visible import visible

Figures = Mapping[str, Any]


def print_pairs(report: Figures, console: Console) -> None:
    """Print the figures of corrupted traces.

    Args:
        report: ``perturbed`` of the summary.
        console: where to.
    """
    levels = tuple(report["hit@1"]["chance"])
    for title, name in (("Hit@1", "hit@1"), ("MRR", "mrr"), ("MAP", "map"), ("Hit@1: reward less", "gain")):
        _print(console, title, levels, report[name])
    kinds = {
        f"{kind} ({part['traces']})": {method: part["hit@1"][method]["token"] for method in part["hit@1"]}
        for kind, part in report["by_kind"].items()
    }
    _print(console, "Hit@1 of the token", tuple(report["hit@1"]), kinds)
    _print(
        console,
        "Clean above corrupted",
        ("preferred",),
        {n: {"preferred": b} for n, b in report["clean_preferred"].items()},
    )
    _print_counts(console, report["counts"])
    warn_of_overlap(report["counts"], console)


def print_solutions(report: Figures, console: Console) -> None:
    """Print the figures of solutions with a marked first wrong step.

    Args:
        report: ``natural`` of the summary.
        console: where to.
    """
    predicted = ("f1", "accuracy_erroneous", "accuracy_correct")
    free = ("lowest_step", "auroc_steps", "auroc_solutions")
    for name, part in {"all": report["all"], **report["subsets"]}.items():
        title = f"{name} ({part['solutions']}, {part['erroneous']} erroneous)"
        for columns in (predicted, free):
            rows = {m: {column: part[column][m] for column in columns} for m in part[columns[0]]}
            _print(console, title, columns, rows)
    gains = {method: {"gain": gain} for method, gain in report["all"]["f1_gain"].items()}
    _print(console, "F1: reward less", ("gain",), gains)
    thresholds = {name: " and ".join(f"{at:.3g}" for at in pair) for name, pair in report["thresholds"].items()}
    console.print("thresholds: " + "   ".join(f"{name} {text}" for name, text in thresholds.items()), highlight=False)
    _print_counts(console, report["counts"])
    warn_of_overlap(report["counts"], console)


def _print(console: Console, title: str, columns: tuple[str, ...], rows: Figures) -> None:
    print_rows(console, escape(visible(title)), columns, {escape(visible(name)): row for name, row in rows.items()})


def _print_counts(console: Console, counts: Figures) -> None:
    """Everything that is not zero."""
    told = []
    for name, count in counts.items():
        parts = count if isinstance(count, Mapping) else {"": count}
        told += [
            f"{name.replace('_', ' ')} {part} {number:,}".replace("  ", " ") for part, number in parts.items() if number
        ]
    console.print(escape(visible("   ".join(told))), highlight=False)
