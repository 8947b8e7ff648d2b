"""The card of an export: what was measured, and the reward in words of plain torch."""

from __future__ import annotations

import json
import runpy
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import exported
import pytest
from exported import Export
from report_run import write_run

from rairl_lightning.components.base import Granularity, Reward
from rairl_lightning.components.critics import Critic, ReadOut
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.errors import ConfigError
from rairl_lightning.exporting import said
from rairl_lightning.exporting.snippet import standalone_steps
from rairl_lightning.text.steps import step_spans

pytestmark = pytest.mark.timeout(360)  # what all tests share is made once, before the first of them


def test_the_card_has_what_was_measured(export: Export, trained: dict[str, Path], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    shutil.copytree(trained["interval"] / "adapters", run / "adapters")
    (run / "config.yaml").unlink()
    files = ["/home/somebody/secret/mine.jsonl", "~/secret/other.jsonl", "../secret/third.jsonl", "owner/fourth"]
    source = {"class_path": "x.JsonLines", "init_args": {"train": files[0], "more": files}}
    (run / "logs" / "version_0" / "config.yaml").write_text(json.dumps({"data": {"source": source}}))
    reranked = {"calibration": {"method": "Temperature", "parameters": {"temperature": 1.5}}}
    bounds = [0.125, 0.1, 0.15]
    for when in ("before", "after"):
        reranked["calibration"][when] = {"ece": bounds, "brier": bounds, "curve": []}
    rules = {"reward": [0.75, 0.7, 0.8], "random": [0.5, 0.45, 0.55]}
    (run / "rerank").mkdir()
    figures = {**reranked, "best_of": {"4": {"all": {"right": rules}}}}
    (run / "rerank" / "summary.json").write_text(json.dumps(figures))
    assert export(run) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "JsonLines" in card and "['mine.jsonl', 'other.jsonl', 'third.jsonl', 'owner/fourth']" in card
    assert "somebody" not in card and "secret" not in card
    assert "12.5 (10.0–15.0)" in card and "Temperature" in card, "calibration"
    assert "| reward | 75.0 (70.0–80.0) |" in card and "N = 4" in card, "reranking"
    assert "⚠ leak: length" in card and "recovered" in card
    assert "tokens 3, 6, … of the completion" in card and "no less than -5" in card
    assert "\x1b" not in card and "\u202e" not in card
    record = json.loads((tmp_path / "out" / "rairl_export.json").read_text())
    assert record["calibration"]["parameters"] == {"temperature": 1.5}
    empty = tmp_path / "empty"
    shutil.copytree(trained["interval"], empty)
    assert export(empty, out="bare") == 0
    assert "choosing among answers (`rairl rerank`)" in (tmp_path / "bare" / "README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Granularity, said.grid),
        (Critic, said.labels),
        (Critic, said.pay),
        (ReadOut, said.share),
        (Reward, said.reward),
        (Pooling, said.pooled),
    ],
)
def test_every_component_is_said_in_plain_torch(kind: type, words: Any) -> None:
    import_module("rairl_lightning.components")
    ours = [one for one in kind.__subclasses__() if one.__module__.startswith("rairl_lightning.")]
    assert ours and [one.__name__ for one in ours if words.dispatch(one) is words.dispatch(object)] == []


def test_a_component_that_is_not_said_is_refused() -> None:
    class Mine:
        pass

    with pytest.raises(ConfigError, match="How Mine reads a reward is not said"):
        said.pooled(Mine())


def test_the_splitter_of_steps_stands_alone(tmp_path: Path) -> None:
    text = standalone_steps()
    assert "rairl_lightning" not in text
    (tmp_path / "steps.py").write_text(text)
    theirs = runpy.run_path(str(tmp_path / "steps.py"))["step_spans"]
    long = "It is 3.5 ft. wide. " * 12
    for one in (exported.WAY, exported.CUT, f"<think>\n{long}\n</think>", "", "<answer>4"):
        assert theirs(one) == step_spans(one)
