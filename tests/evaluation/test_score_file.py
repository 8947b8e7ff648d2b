"""A file of scores: continued where it was interrupted, refused where it was made otherwise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scoring import InMemory, scored
from traces import sampled

from rairl_lightning.errors import CheckpointError, DataError
from rairl_lightning.evaluation.resumable import ResumableLines
from rairl_lightning.evaluation.score_file import score_file
from rairl_lightning.evaluation.scoring import Trace, traces_of
from rairl_lightning.evaluation.tally import Tally, print_tally
from rairl_lightning.evaluation.trained import TrainedReward

MADE = {"reward": "abc", "tokens": False}


def written(reward: TrainedReward, traces: list[Trace], file: Path, made: Any = MADE, stop: int | None = None) -> Tally:
    tally = Tally()
    with ResumableLines(file, made) as lines:
        for windows, tally in enumerate(score_file(reward, traces, lines, window=3)):  # noqa: B007
            if windows == stop:
                break
    return tally


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", ["", '{"id": "gate-', "\n\n{}\n"])
def test_an_interrupted_file_is_continued(
    reward: TrainedReward, some: list[Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, torn: str
) -> None:
    whole = written(reward, some, tmp_path / "whole.jsonl")
    written(reward, some, tmp_path / "cut.jsonl", stop=stop)
    done = len((tmp_path / "cut.jsonl").read_text().splitlines())
    assert done == 3 * stop
    with (tmp_path / "cut.jsonl").open("a") as file:
        file.write(torn)
    encoded: list[str] = []
    encode = reward.codec.encode_trace
    monkeypatch.setattr(reward.codec, "encode_trace", lambda *args: (encoded.append(args[1]), encode(*args))[1])
    tally = written(reward, some, tmp_path / "cut.jsonl")
    assert len(encoded) == 10 - done, "what was written is not scored again"
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert tally.figures() == whole.figures()


def test_a_finished_file_is_left_as_it_is(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    first = written(reward, some, tmp_path / "x.jsonl").figures()
    before = (tmp_path / "x.jsonl").read_bytes()
    assert written(reward, some, tmp_path / "x.jsonl").figures() == first
    assert (tmp_path / "x.jsonl").read_bytes() == before and len(before.splitlines()) == 10


def test_more_traces_at_the_end_are_added(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some[:5], tmp_path / "x.jsonl")
    written(reward, some, tmp_path / "x.jsonl")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 10


def test_another_input_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some, tmp_path / "x.jsonl", stop=2)
    before = (tmp_path / "x.jsonl").read_bytes()
    changes = (
        {"completion": "else"},
        {"answer": "?"},
        {"record": {**some[0].record, "model": "b"}},
        {"finished": False},
    )
    first = [*(replace(some[0], **change) for change in changes)]
    first.append(replace(some[0], question=replace(some[0].question, prompt="else")))
    for other in (some[1:], some[::-1], *([one, *some[1:]] for one in first)):
        with pytest.raises(DataError, match="not the one that the lines already written"):
            written(reward, other, tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="ends before the lines") as error:
        written(reward, some[:4], tmp_path / "x.jsonl")
    assert "--limit" in str(error.value)
    assert (tmp_path / "x.jsonl").read_bytes() == before


def test_another_reward_or_setting_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some, tmp_path / "x.jsonl", stop=1)
    for made in ({"reward": "abd", "tokens": False}, {"reward": "abc", "tokens": True}, {"reward": "abc"}):
        with pytest.raises(CheckpointError, match="--overwrite true"):
            written(reward, some, tmp_path / "x.jsonl", made)


@pytest.mark.parametrize("how", ["edited", "shortened", "no note", "broken note", "odd note", "odd figures"])
def test_a_file_that_was_changed_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path, how: str) -> None:
    file, meta = tmp_path / "x.jsonl", tmp_path / "x.meta.json"
    written(reward, some, file, stop=2)
    raw = file.read_bytes()
    match how:
        case "edited":
            file.write_bytes(raw.replace(b"gate-0", b"gate-9", 1))
        case "shortened":
            file.write_bytes(raw[:-2])
        case "no note":
            meta.unlink()
        case "broken note":
            meta.write_text("{")
        case "odd note":
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "lines": "6"}))
        case "odd figures":
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "notes": {"traces": 6}}))
    with pytest.raises(CheckpointError, match=r"cannot be (continued|read)[^$]*--overwrite true"):
        written(reward, some, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", None), ("scored", True), ("grades", [1]), ("problems", {"empty": "x"}), ("sums", {"right": [1, 2]})],
)
def test_damaged_figures_are_refused(name: str, value: object) -> None:
    notes = Tally(3, 2, 9, sums={"right": [2, 0.5, 0.25]}).notes()
    assert Tally.read(notes).notes() == notes
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tally.read({**notes, name: value})


def test_figures_by_hand_and_a_table(
    reward: TrainedReward, some: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    tally = Tally()
    results = scored(reward, [*some, *traces_of(InMemory(sampled(1, "", "nothing")))])
    tally.add(results)
    figures = tally.figures()
    assert (figures["traces"], figures["scored"]) == (12, 11)
    assert figures["grades"] == {"right": 5, "wrong": 5, "unknown": 0, "unanswered": 2}
    assert figures["problems"]["empty"] == 1 and figures["problems"]["no_answer"] == 2
    right = [one.reward for one in results if one.trace.grade.value == "right"]
    mean = sum(right) / 5
    assert figures["reward"]["right"]["mean"] == pytest.approx(mean)
    assert figures["reward"]["right"]["deviation"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in right) / 5))
    assert Tally.read(json.loads(json.dumps(tally.notes()))).figures() == figures
    print_tally(figures, Console())
    out = capsys.readouterr().out
    assert "unanswered" in out and "1 empty: the completion has no text" in out and "unknown" not in out
