"""The table of curves: a line a step, whatever order things are logged in and however often a run starts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rairl_lightning.callbacks import MetricsCSV


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def log(folder: Path, *calls: tuple[int, dict[str, float]], closed: bool = True) -> MetricsCSV:
    logger = MetricsCSV(str(folder))
    for step, metrics in calls:
        logger.log_metrics(metrics, step)
        logger.save()
    if closed:
        logger.finalize("success")
    return logger


def test_all_that_is_logged_at_a_step_shares_a_line(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}), (0, {"extra": 0.25}), (1, {"loss": 0.5}), (1, {"loss": 0.75}))
    assert rows(tmp_path) == [{"step": "0", "loss": "1.0", "extra": "0.25"}, {"step": "1", "loss": "0.75"}]


def test_a_new_metric_widens_the_table_and_loses_nothing(tmp_path: Path) -> None:
    log(tmp_path, (0, {"b": 1.0}), (1, {"b": 2.0}), (2, {"a": 3.0, "c": 4.0}), (3, {"a": 5.0}))
    assert [list(row.values()) for row in rows(tmp_path)] == [
        ["0", "1.0"],
        ["1", "2.0"],
        ["2", "3.0", "4.0"],
        ["3", "5.0"],
    ]
    assert (tmp_path / "logs" / "metrics.csv").read_text().splitlines()[0] == "step,b,a,c"
    assert not list((tmp_path / "logs").glob("*.partial"))


def test_a_run_that_goes_on_replaces_the_lines_behind_its_checkpoint(tmp_path: Path) -> None:
    log(tmp_path, *((step, {"loss": float(step)}) for step in range(5)), closed=False)
    log(tmp_path, (3, {"loss": 30.0}), (4, {"other": 40.0}))
    kept = [{"step": str(step), "loss": f"{step}.0"} for step in range(3)]
    assert rows(tmp_path) == [*kept, {"step": "3", "loss": "30.0"}, {"step": "4", "other": "40.0"}]


@pytest.mark.parametrize("left", ["", "st", "step,loss\n0,1.0\n1,", "step,loss\n0,1.0\n,7\nx,2\n", "step\n\x00\n"])
def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text(left)
    log(tmp_path, (1, {"loss": 2.0}))
    first = [{"step": "0", "loss": "1.0"}] if "0,1.0" in left else []
    assert rows(tmp_path) == [*first, {"step": "1", "loss": "2.0"}]


def test_another_process_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log(tmp_path, (0, {"loss": 1.0}))
    assert not (tmp_path / "logs").exists()
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    log(tmp_path, (0, {"loss": 1.0}))
    assert rows(tmp_path)


def test_a_logger_that_logged_nothing_leaves_nothing(tmp_path: Path) -> None:
    logger: Any = MetricsCSV(str(tmp_path))
    logger.save()
    logger.finalize("failed")
    assert not (tmp_path / "logs").exists() and (logger.name, logger.save_dir) == ("logs", str(tmp_path))
