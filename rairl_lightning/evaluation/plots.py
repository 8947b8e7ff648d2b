"""Pictures without a display or pyplot, which keeps what it draws; and a CSV of the numbers in one."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"

Row = dict[str, Any]
Draw = Callable[["Axes", Sequence[Row]], None]


def drawn(rows: Sequence[Row], draw: Draw, dpi: int = 150) -> Figure:
    """A picture of one pair of axes.

    Args:
        rows: what to draw.
        draw: draws the rows.
        dpi: dots an inch; it is 6.4 inches wide and 4.4 high.
    """
    from matplotlib.figure import Figure  # takes a second; draws by Agg, without a display

    figure = Figure(figsize=(6.4, 4.4), dpi=dpi, layout="constrained")
    draw(figure.add_subplot(), rows)
    return figure


def uncluttered(axes: Axes) -> None:
    """Leave out two sides of the frame, and draw faint lines to read values by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)


def write_plot(folder: Path, name: str, rows: Sequence[Row], draw: Draw) -> None:
    """Write ``<name>.csv`` and ``<name>.png``.

    Args:
        folder: exists.
        name: of the files.
        rows: all with the same keys.
        draw: draws the rows.
    """
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    drawn(rows, draw).savefig(folder / f"{name}.png")
