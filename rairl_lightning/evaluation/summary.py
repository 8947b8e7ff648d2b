"""The figures of a run as plain numbers, and as a table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rairl_lightning.functional.bootstrap import bootstrap_interval

Figures = Mapping[str, Any]


def interval(values_Q: Tensor, seed: int) -> list[float]:
    """``[mean, low, high]`` with a 95 % bootstrap interval over questions, rounded to 4 digits; NaN without any."""
    if not len(values_Q):
        return [math.nan] * 3
    bounds = bootstrap_interval(values_Q, generator=torch.Generator().manual_seed(seed))
    return [round(value, 4) for value in bounds]


def write_summary(path: Path, summary: Figures) -> None:
    """Write the JSON under a temporary name and rename it; a figure that is not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(json_safe(summary), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def print_summary(summary: Figures, console: Console | None = None) -> None:
    """Print the summary as tables: test split, per cent, 95 % bootstrap intervals.

    Args:
        summary: with the keys of ``runs/quickstart/summary.json``.
        console: where to; the terminal by default.
    """
    sections = (
        ("pass@1", ("greedy", "sampled"), summary["pass@1"]),
        ("Hit@1", ("token", "interval", "step"), summary["hit@1"]),
    )
    console = console or rich.get_console()
    for title, columns, rows in sections:
        print_rows(console, title, columns, rows)
    samples = summary["samples"]
    chosen = {name: {"right": bounds} for name, bounds in summary[f"best_of_{samples}"].items()}
    print_rows(console, f"Best of {samples}", ("right",), chosen)
    seconds = "  ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    area = f"D's held-out AUROC {per_cent(summary['auroc'])}   " if "auroc" in summary else ""
    console.print(f"{area}seed {summary['seed']}   commit {summary['commit']}")
    console.print(f"seconds: {seconds}", highlight=False)


def json_safe(value: Any) -> Any:
    """The same values with null for NaN and infinities, and strings for the keys of mappings.

    >>> json_safe({"a": [1.5, math.nan]})
    {'a': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(row: Mapping[str, Any]) -> str:
    """A row of anyone's data as one line of JSON, with the text of what JSON does not know: dates, decimals, bytes.

    >>> from datetime import date
    >>> json_line({"day": date(2024, 5, 1), "score": math.nan})
    '{"day": "2024-05-01", "score": null}'
    """
    return json.dumps(json_safe(row), ensure_ascii=False, allow_nan=False, default=str)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines; the file is whole or not there. Half a surrogate pair is written as its escape."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json_line(row) + "\n")
    partial.replace(path)


def new_table(title: str, columns: Sequence[str]) -> Table:
    """A table of figures without rows: names to the left, figures to the right.

    Args:
        title: heads the column of names.
        columns: in order.
    """
    table = Table(title_justify="left")
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def print_rows(console: Console, title: str, columns: tuple[str, ...], rows: Figures) -> None:
    """Print one table of intervals.

    Args:
        console: where to.
        title: heads the column of names.
        columns: in order.
        rows: by name, ``[value, low, high]`` by column.
    """
    table = new_table(title, columns)
    for name, cells in rows.items():
        table.add_row(name, *(per_cent(cells[column]) for column in columns))
    console.print(table)


def per_cent(bounds: Sequence[float | None]) -> str:
    """``[value, low, high]`` as ``61.2 (55.0–67.1)``; a dash where one is NaN, or null as in a file.

    >>> per_cent([0.612, 0.55, 0.671])
    '61.2 (55.0–67.1)'
    """
    known = [value for value in bounds if value is not None and not math.isnan(value)]
    if len(known) < len(bounds):
        return "–"
    mean, low, high = (round(100 * value, 1) + 0.0 for value in known)  # no -0.0
    return f"{mean:.1f} ({low:.1f}–{high:.1f})"
