import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rairl_lightning.evaluation.provenance import commit
from rairl_lightning.evaluation.summary import interval, print_summary, write_rows, write_summary

FIGURE = [0.612, 0.55, 0.671]
SUMMARY = {
    "seed": 3,
    "samples": 16,
    "commit": "abc",
    "seconds": {"total": 61.0},
    "pass@1": {name: {"greedy": FIGURE, "sampled": FIGURE} for name in ("sft", "sft_continued", "rairl")},
    "best_of_16": {name: FIGURE for name in ("reward", "random")},
    "hit@1": {name: dict.fromkeys(("token", "interval", "step"), FIGURE) for name in ("reward", "chance")},
    "auroc": [float("nan")] * 3,
}


def test_an_interval_holds_the_mean_and_narrows_with_more_questions() -> None:
    few, many = (interval(torch.tensor([0.0, 1.0] * count), seed=0) for count in (5, 500))
    for mean, low, high in (few, many):
        assert mean == 0.5 and low < mean < high
    assert many[2] - many[1] < 0.2 * (few[2] - few[1])
    assert interval(torch.tensor([0.0, 1.0] * 5), seed=0) == few


def test_nothing_to_average_is_said_and_not_an_error(tmp_path: Path) -> None:
    nothing = interval(torch.zeros(0), seed=0)
    write_summary(tmp_path / "summary.json", {"hit@1": {"reward": nothing}, "seconds": {"total": 1.5}})
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text, "no other language reads it"
    assert json.loads(text) == {"hit@1": {"reward": [None] * 3}, "seconds": {"total": 1.5}}


def test_the_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "summary.json"
    write_summary(path, {"seed": 1})
    with pytest.raises(TypeError):
        write_summary(path, {"seed": object()})
    assert json.loads(path.read_text()) == {"seed": 1}


def test_rows_of_anyones_data_can_be_written(tmp_path: Path) -> None:
    """Columns of a Parquet file, and half a surrogate pair of a JSON file, would stop a run at its end."""
    row = {"day": date(2024, 5, 1), "price": Decimal("1.50"), "raw": b"x", "nested": [{1: float("inf")}], "t": "\ud800"}
    write_rows(tmp_path / "rows.jsonl", iter([row, {"a": "é"}]))
    first, second = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    plain = {"day": "2024-05-01", "price": "1.50", "raw": "b'x'", "nested": [{"1": None}], "t": "\ud800"}
    assert json.loads(first) == plain and second == '{"a": "é"}'
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_table_shows_every_figure() -> None:
    out = io.StringIO()
    print_summary(SUMMARY, Console(file=out, width=100))
    text = out.getvalue()
    assert text.count("61.2 (55.0–67.1)") == 3 * 2 + 2 + 2 * 3
    for word in ("sft_continued", "rairl", "chance", "interval", "seed 3", "commit abc", "total 61", "AUROC –"):
        assert word in text


def test_the_commit_is_known_or_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit()
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
