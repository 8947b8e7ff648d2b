"""The transfer table: cells of a plan, what is run again, and what the rows show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rairl_lightning.errors import ConfigError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLAN = {
    "rewards": {"ours": "runs/ours", "theirs": "runs/theirs"},
    "common": {"device": "cpu", "seed": 3},
    "rerank": {"exam": {"traces": {"class_path": "TraceFile"}, "seed": 4}},
    "localise": {"marked": {"steps": {"class_path": "ProcessSteps"}}},
}
RERANKED = {
    "commit": "abc",
    "best_of": {
        "2": {"all": {"right": {}, "over_random": {}}},
        "4": {
            "all": {
                "right": {"reward": [0.5, 0.4, 0.6], "majority": [0.55, 0.5, 0.6], "logprob": [0.25, 0.2, 0.3]},
                "over_random": {"reward": [0.1, 0.0, 0.2]},
            }
        },
    },
    "auroc": {"within_question": [0.75, None, None]},
}
LOCALISED = {"natural": {"all": {"f1": {"reward": [0.3, 0.2, 0.4], "logprob": [0.2, 0.1, 0.3]}}}}


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import transfer

    return transfer


def test_a_cell_is_a_reward_on_a_data_set_with_the_commands_options(transfer: Any, tmp_path: Path) -> None:
    found = {(cell.command, cell.data, cell.reward): cell for cell in transfer.cells(PLAN)}
    assert len(found) == 4
    exam = found["rerank", "exam", "theirs"]
    assert exam.options == {
        "device": "cpu",
        "seed": 4,
        "traces": {"class_path": "TraceFile"},
        "reward": "runs/theirs",
    }, "a data set's own option wins"
    assert exam.folder(tmp_path) == tmp_path / "rerank" / "theirs" / "exam"


@pytest.mark.parametrize(
    "change",
    [
        {"rewards": {}},
        {"rerank": {}, "localise": {}},
        {"reranks": {"exam": {}}},
        {"rerank": {"../out": {}}},
        {"rewards": {"a/b": "runs/a"}},
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(transfer: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="plan"):
        transfer.cells({**PLAN, **change})


def test_the_table_by_hand_and_what_is_not_run_again(
    transfer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str]] = []

    def pretend(cell: Any, out: Path) -> None:
        ran.append((cell.command, cell.reward))
        folder = cell.folder(out)
        folder.mkdir(parents=True, exist_ok=True)
        if cell.reward == "theirs":
            (folder / "log.txt").write_text("loading\nerror: Another tokenizer | template.\n  expected: a\n")
        else:
            (folder / "summary.json").write_text(json.dumps(RERANKED if cell.command == "rerank" else LOCALISED))

    monkeypatch.setattr(transfer, "run", pretend)
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    assert transfer.main([str(plan), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    row = "| exam | ours | 50.0 (40.0–60.0) | 10.0 (0.0–20.0) | 55.0 (50.0–60.0) | 25.0 (20.0–30.0) | – |"
    assert row in shown
    assert "| marked | ours | 30.0 (20.0–40.0) | 20.0 (10.0–30.0) |" in shown
    assert "| exam | theirs | refused: Another tokenizer \\| template. | – |" in shown
    written = json.loads((tmp_path / "out" / "transfer.json").read_text())["cells"]
    assert {cell.get("refused") for cell in written} == {None, "Another tokenizer | template."}
    assert written[0]["figures"]["Best of 4, reward"] == [0.5, 0.4, 0.6] and written[0]["commit"] == "abc"
    before = len(ran)
    assert transfer.main([str(plan), "--out", str(tmp_path / "out")]) == 0
    assert ran[before:] == [("rerank", "theirs"), ("localise", "theirs")], "only what found nothing is tried again"


def test_a_cell_that_left_no_word_is_not_silent(transfer: Any, tmp_path: Path) -> None:
    cell = transfer.cells(PLAN)[0]
    assert transfer.summary_of(cell, tmp_path) == {"refused": "not run"}
    cell.folder(tmp_path).mkdir(parents=True)
    (cell.folder(tmp_path) / "log.txt").write_text("")
    assert transfer.summary_of(cell, tmp_path) == {"refused": "no output"}


@pytest.mark.slow
def test_a_refusal_is_the_commands_own(transfer: Any, tmp_path: Path) -> None:
    plan = {**PLAN, "rewards": {"ours": str(tmp_path / "nothing")}, "localise": {}}
    plan["rerank"] = {"exam": {"traces": {"class_path": "TraceFile", "init_args": {"path": "nothing.jsonl"}}}}
    (cell,) = transfer.cells(plan)
    transfer.run(cell, tmp_path)
    assert "nothing" in transfer.summary_of(cell, tmp_path)["refused"]
