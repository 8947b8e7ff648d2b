"""The curves of a run as one table that anything opens: a line a training step, a column a metric."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rairl_lightning.evaluation.run_folder import LOGS, METRICS

Cells = dict[str, Any]


class MetricsCSV(Logger):
    """Writes every scalar to ``<save_dir>/<name>/metrics.csv``, as ``trainer.logger`` or one of several.

    Lightning's own ``CSVLogger`` writes a line a call, and a run that goes on into another folder. Here all that is
    logged at a step shares a line, and a run that goes on replaces the lines from its first step on, so that no step
    stands there twice. A metric that was not logged at a step is an empty cell.

    Args:
        save_dir: the run's folder, on this machine.
        name: of the folder in it.
    """

    def __init__(self, save_dir: str, name: str = LOGS) -> None:
        super().__init__()
        self._save_dir, self._name = str(save_dir), name
        self._columns: list[str] = ["step"]
        self._row: Cells = {}
        self._end: int | None = None
        """Bytes of the finished lines; None until something is written."""

    @property
    def name(self) -> str:
        """Of the folder in the run's folder."""
        return self._name

    @property
    def version(self) -> str:
        """None: a run that goes on writes to the same file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return self._save_dir

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._save_dir, self._name, METRICS)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are no curve, and stand in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars to the line of a step.

        Args:
            metrics: by name.
            step: training step, >= 0; that of the line before if None.
        """
        step = self._row.get("step", 0) if step is None else step
        if self._row.get("step") != step:
            self.save()
            self._end = self._taken_up(step) if self._end is None else self.path.stat().st_size
            self._row = {"step": step}
        self._row |= {name: float(value) for name, value in metrics.items()}

    @rank_zero_only
    def save(self) -> None:
        """Write the present line, again if it has grown."""
        if self._end is None:
            return
        if new := self._row.keys() - set(self._columns):
            self._columns += sorted(new)
            self._end = _rewritten(self.path, self._columns, _rows(self.path, self._end))
        with self.path.open("r+b") as file:
            file.seek(self._end)
            file.truncate()
            file.write(_line(self._row, self._columns))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last line."""
        self.save()

    def _taken_up(self, step: int) -> int:
        """Keep of an earlier start what it wrote before this step; the bytes of that."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for row in _rows(self.path) if _is_before(row, step)]
        self._columns = list(rows[0]) if rows else self._columns
        return _rewritten(self.path, self._columns, rows)


def _rows(path: Path, end: int | None = None) -> list[Cells]:
    """The lines of a file, or of its first bytes."""
    text = path.read_bytes()[:end].decode(errors="replace") if path.is_file() else ""
    return list(csv.DictReader(io.StringIO(text)))


def _is_before(row: Cells, step: int) -> bool:
    """Whether a line that an earlier start wrote, maybe not to its end, is of an earlier step."""
    return str(row.get("step", "")).isdecimal() and int(row["step"]) < step


def _rewritten(path: Path, columns: list[str], rows: list[Cells]) -> int:
    """Write a whole file under a temporary name and rename it; its bytes."""
    partial = path.with_suffix(".partial")
    head = dict(zip(columns, columns, strict=True))
    partial.write_bytes(b"".join(_line(row, columns) for row in (head, *rows)))
    partial.replace(path)
    return path.stat().st_size


def _line(row: Cells, columns: list[str]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerow(row)
    return text.getvalue().encode()
