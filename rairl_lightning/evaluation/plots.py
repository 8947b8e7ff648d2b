"""A picture beside a CSV of the numbers in it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"

Row = dict[str, Any]


def write_plot(folder: Path, name: str, rows: Sequence[Row], draw: Callable[[Axes, Sequence[Row]], None]) -> None:
    """Write ``<name>.csv`` and ``<name>.png``.

    Args:
        folder: exists.
        name: of the files.
        rows: all with the same keys.
        draw: draws the rows.
    """
    from matplotlib.figure import Figure  # takes a second; draws by Agg, without a display

    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    draw(figure.add_subplot(), rows)
    figure.savefig(folder / f"{name}.png", dpi=150)
