"""``rairl score`` from a command line to its files."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import traces
from traces import completion

from rairl_lightning.cli import main
from rairl_lightning.components import Minimum
from rairl_lightning.errors import CheckpointError, ConfigError, DataError
from rairl_lightning.evaluation.scoring import score_traces, traces_of
from rairl_lightning.evaluation.trained import TrainedReward

Score = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three questions, seven traces, one of them empty."""
    lines = [[3, completion(1), completion(2, "right")], [1, completion(0), "", completion(4)], [2, completion(2), "?"]]
    path = tmp_path / "traces.txt"
    path.write_text("\n".join("\t".join(str(cell).replace("\n", "\\n") for cell in line) for line in lines))
    return path


@pytest.fixture
def score(run: Path, file: Path, tmp_path: Path) -> Score:
    def command(*args: str, out: str = "out") -> int:
        common = [f"--reward={run}", f"--traces={traces.Listed.__module__}.Listed", f"--traces.path={file}"]
        return main(["score", *common, f"--out={tmp_path / out}", "--device=cpu", *args])

    return command


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def test_lines_summary_and_table(
    score: Score, run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("--tokens=true") == 0
    reward = TrainedReward.load(run, device="cpu")
    (expected,) = score_traces(reward, traces_of(traces.Listed(str(file))))
    assert rows(tmp_path / "out") == [one.to_json(tokens=True) for one in expected]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["traces"], summary["scored"], summary["problems"]["empty"]) == (7, 6, 1)
    assert summary["reward"]["all"]["scored"] == 6 and summary["reward_from"] == str(run)
    assert summary["fingerprint"] == reward.fingerprint
    assert summary["commit"] and "Listed" in summary["traces_from"]
    out = capsys.readouterr().out
    assert "traces/s" in out and "tokens/s" in out and "1 empty" in out


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv"])
def test_files_of_every_kind_score_alike(score: Score, run: Path, file: Path, tmp_path: Path, kind: str) -> None:
    records = [
        {"id": question.question.id, "prompt": question.question.prompt, "completion": text, "answer": "left"}
        for question in traces.Listed(str(file)).questions()
        for text in question.completions
        if text
    ]
    path = tmp_path / f"samples.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, records[0])
            writer.writeheader()
            writer.writerows(records)
    else:
        with gzip.open(path, "wt") if kind.endswith("gz") else path.open("w") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records)
    assert main(["score", f"--reward={run}", "--traces=TraceFile", f"--traces.path={path}", f"--out={tmp_path}/o"]) == 0
    assert score() == 0
    ours = [(row["id"], row["completion"], row["grade"], row["reward"]) for row in rows(tmp_path / "o")]
    tagged = [(*row[:3], pytest.approx(row[3], abs=2e-6)) for row in ours if "</answer>" in row[1]]
    plain = [(row["id"], row["completion"], row["grade"], row["reward"]) for row in rows(tmp_path / "out")]
    assert [row for row in plain if "</answer>" in row[1]] == tagged and len(tagged) == 5
    assert all(row["answer"] == "left" and "input" not in row for row in rows(tmp_path / "o")[:1])


def test_it_is_continued_only_as_it_was_begun(score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("--limit=2") == 0 and len(rows(tmp_path / "out")) == 2
    assert score() == 0 and len(rows(tmp_path / "out")) == 7
    assert "5 new" in capsys.readouterr().out
    assert score("--pooling=Minimum") == CheckpointError.exit_code
    assert score("--limit=3") == DataError.exit_code
    assert "--overwrite true" in capsys.readouterr().err
    assert score("--pooling=Minimum", "--overwrite=true") == 0 and len(rows(tmp_path / "out")) == 7


def test_options_reach_the_reward(score: Score, run: Path, file: Path, tmp_path: Path) -> None:
    assert score("--pooling=Minimum", "--granularity=Step", "--max_tokens=64") == 0
    reward = TrainedReward.load(run, device="cpu", pooling=Minimum())
    plain = [one.reward for one in next(score_traces(reward, traces_of(traces.Listed(str(file)))))]
    ours = [row["reward"] for row in rows(tmp_path / "out")]
    assert ours != plain and sum(value is None for value in ours) == 1


def test_the_earlier_result_goes_only_when_there_is_a_new_one(score: Score, file: Path, tmp_path: Path) -> None:
    assert score("--limit=1") == 0
    for wrong in ("--reward=nowhere", f"--traces.path={file}.missing"):
        assert score("--overwrite=true", wrong) == CheckpointError.exit_code
        assert len(rows(tmp_path / "out")) == 1


def test_what_another_wrote_is_not_overwritten(score: Score, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.jsonl").write_text("mine\n")
    assert score() == ConfigError.exit_code
    assert (tmp_path / "out" / "scores.jsonl").read_text() == "mine\n"


def test_a_wrong_option_comes_before_any_loading(score: Score, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("--limit=0") == ConfigError.exit_code and "limit" in capsys.readouterr().err
    assert score("--long=Windows", "--long.overlap=-1") == ConfigError.exit_code
    assert score("--reward=nowhere") == CheckpointError.exit_code
    assert "rairl fit" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:x"])
def test_a_device_that_is_not_there(score: Score, capsys: pytest.CaptureFixture[str], device: str) -> None:
    assert score(f"--device={device}") == ConfigError.exit_code
    err = capsys.readouterr().err
    assert "There is no such device" in err and f"{device}: " in err and "--device at auto" in err


def test_configurations_that_cannot_be_read(score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("model: é".encode("latin-1"))
    assert score(f"--config={file}") == ConfigError.exit_code
    assert "UTF-8" in capsys.readouterr().err
    assert score(f"--run_config={file}") == ConfigError.exit_code
    assert "config.yaml that R-AIRL" in capsys.readouterr().err
    assert score(f"--run_config={tmp_path}/none.yaml") == ConfigError.exit_code
    err = capsys.readouterr().err
    assert "--run_config names" in err and "--ckpt_path" not in err


def test_lone_surrogates_are_replaced(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    row = {"id": "a", "prompt": "go \ud800", "completion": completion(1).replace("go", "\udfffgo 🙂"), "answer": "left"}
    path.write_text(json.dumps(row) + "\n")
    args = ["--traces=TraceFile", f"--traces.path={path}", f"--out={tmp_path}/out", "--device=cpu"]
    assert main(["score", f"--reward={run}", *args]) == 0
    (line,) = rows(tmp_path / "out")
    assert line["prompt"] == "go \ufffd" and "\ufffdgo 🙂" in line["completion"] and line["reward"] is not None
    plain = TrainedReward.load(run, device="cpu").codec
    assert plain.encode_trace("\udc80", "a\udc80 b")[0] == plain.encode_trace("\ufffd", "a\ufffd b")[0]
