"""What a localisation leaves behind: a line a trace, tables in the terminal, pictures with their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track
from torch import Tensor

from rairl_lightning.evaluation.localisation.plots import (
    draw_hits,
    draw_offsets,
    draw_thresholds,
    hit_rows,
    offset_rows,
    threshold_rows,
)
from rairl_lightning.evaluation.localisation.reports import PairsReport, SolutionsReport
from rairl_lightning.evaluation.localisation.rows import pair_rows, solution_rows
from rairl_lightning.evaluation.localisation.table import print_pairs, print_solutions
from rairl_lightning.evaluation.plots import write_plot
from rairl_lightning.evaluation.summary import write_rows
from rairl_lightning.models.codec import TraceCodec


def write_pairs(folder: Path, report: PairsReport, codec: TraceCodec, *, plots: bool) -> None:
    """Write ``corrupted.jsonl`` and, with ``plots``, ``hit_at_1``; print the tables.

    Args:
        folder: exists.
        report: of corrupted traces.
        codec: of the reward.
        plots: draw.
    """
    write_rows(folder / "corrupted.jsonl", pair_rows(report.pairs, report.demonstrations, codec))
    print_pairs(report.figures, Console())
    if plots:
        write_plot(folder, "hit_at_1", list(hit_rows(report.figures)), draw_hits)


def write_solutions(folder: Path, report: SolutionsReport, *, plots: bool) -> None:
    """Write ``labelled.jsonl`` and, with ``plots``, ``thresholds`` and ``offsets``; print the tables.

    Args:
        folder: exists.
        report: of labelled solutions.
        plots: draw.
    """
    predicted_N, thresholds = report.predicted["reward"], report.thresholds["reward"]
    write_rows(folder / "labelled.jsonl", solution_rows(report.traces, report.scored, predicted_N, thresholds))
    print_solutions(report.figures, Console())
    if plots:
        write_plot(folder, "thresholds", threshold_rows(report.scored), draw_thresholds)
        write_plot(folder, "offsets", offset_rows(report.scored, predicted_N), draw_offsets)


def shown(batches: Iterable[Tensor]) -> Iterable[Tensor]:
    """The same behind a progress bar, which goes when they are through."""
    return track(batches, description="reading traces", transient=True)
