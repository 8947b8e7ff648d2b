"""``rairl localise`` from a command line to its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import marked
import pytest

from rairl_lightning.cli import main
from rairl_lightning.commands.localise import FILES, _some
from rairl_lightning.errors import ConfigError, DataError

Localise = Callable[..., int]
DATA, STEPS = "--data=gates.Gates", "--steps=marked.MarkedGates"
KINDS = '--perturbations=[{"class_path": "OperatorFlip"}, {"class_path": "NumberCorruption"}]'


@pytest.fixture
def localise(run: Path, tmp_path: Path) -> Localise:
    def command(*args: str, out: str = "out") -> int:
        return main(["localise", f"--reward={run}", f"--out={tmp_path / out}", "--device=cpu", *args])

    return command


def strict(path: Path) -> Any:
    """JSON as others read it: no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_protocols_write_all_their_files(
    localise: Localise, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert localise(DATA, KINDS, "--copies=2", "--interval=4", STEPS, "--seed=3") == 0
    folder = tmp_path / "out"
    assert {file.name for file in folder.iterdir()} == set(FILES)
    summary = strict(folder / "summary.json")
    assert summary["reward_from"] == str(run) and "Dense" in summary["reader"]
    assert summary["commit"] and summary["seed"] == 3 and len(summary["fingerprint"]) == 16
    pairs, marked = summary["perturbed"], summary["natural"]
    assert (pairs["split"], pairs["copies"], pairs["every"]) == ("test", 2, 4) and "Gates" in pairs["data"]
    assert pairs["traces"] == len(rows(folder / "corrupted.jsonl")) == 8 and pairs["counts"]["demonstrations"] == 4
    assert marked["all"]["solutions"] == len(rows(folder / "labelled.jsonl")) == 24
    assert "MarkedGates" in marked["steps"] and marked["step_score"] == "LastToken()"
    hits = list(csv.DictReader((folder / "hit_at_1.csv").read_text().splitlines()))
    assert {row["method"]: float(row["hit@1"]) for row in hits if row["level"] == "step"} == {
        method: levels["step"][0] for method, levels in pairs["hit@1"].items()
    }
    assert all((folder / name).stat().st_size for name in FILES)
    out = capsys.readouterr().out
    for word in ("Hit@1", "MRR", "MAP", "entropy_spike", "chance", "f1", "toy/odd", "thresholds:", "never", "Saved"):
        assert word in out


def test_questions_of_the_training_are_told(
    localise: Localise, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toy reward was trained on gates 0 to 7."""
    assert localise(DATA, KINDS, "--split=train", "--limit=5", "--copies=2", "--plots=false") == 0
    counts = strict(tmp_path / "out" / "summary.json")["perturbed"]["counts"]
    assert (counts["questions"], counts["questions_trained_on"]) == (5, 5)
    assert "5 of 5 questions are ones the reward was trained on" in capsys.readouterr().out
    assert localise(DATA, KINDS, STEPS, "--plots=false", out="test") == 0
    parts = strict(tmp_path / "test" / "summary.json")
    asked = {one.prompt for one in marked.MarkedGates().solutions()}
    trained_on = len(asked & {f"gate {gate}" for gate in range(8)})
    assert parts["perturbed"]["counts"]["questions_trained_on"] == 0, "the test split"
    counts = parts["natural"]["counts"]
    assert (counts["questions"], counts["questions_trained_on"]) == (len(asked), trained_on)
    assert ("questions are ones" in capsys.readouterr().out) == bool(trained_on)


def test_one_protocol_alone(localise: Localise, tmp_path: Path) -> None:
    assert (
        localise(STEPS, "--steps.count=10", "--step_score=StepDrop", "--step_score.score=StepMean", "--plots=false")
        == 0
    )
    summary = strict(tmp_path / "out" / "summary.json")
    assert "perturbed" not in summary and summary["natural"]["all"]["solutions"] == 10
    assert summary["natural"]["step_score"] == "StepDrop(score=StepMean())"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"summary.json", "labelled.jsonl"}


def test_the_same_again(localise: Localise, tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert localise(DATA, "--plots=false", f"--seed={seed}", out=out) == 0
    a, b, c = (rows(tmp_path / out / "corrupted.jsonl") for out in "abc")
    assert a == b and a != c
    first, second = (strict(tmp_path / out / "summary.json")["perturbed"] for out in "ab")
    assert first == second and len(first["counts"]["kinds"]) > 1, "every kind by default"


def test_limit_and_split(localise: Localise, tmp_path: Path) -> None:
    assert localise(DATA, KINDS, STEPS, "--limit=3", "--split=train", "--plots=false") == 0
    summary = strict(tmp_path / "out" / "summary.json")
    assert summary["perturbed"]["counts"]["demonstrations"] == 3 == summary["natural"]["counts"]["solutions"]
    drawn = [row["id"] for row in rows(tmp_path / "out" / "corrupted.jsonl")]
    assert len(set(drawn)) == 3 and all(one.startswith("gate-") for one in drawn)


def test_what_is_left_of_a_sorted_file_is_drawn_from_all_of_it() -> None:
    labels = [3] * 50 + [-1] * 50  # errors first, as ProcessBench has them
    drawn = _some(labels, 40, seed=0)
    assert 10 < drawn.count(-1) < 30 and drawn == sorted(drawn, reverse=True), "some of both, in their order"
    assert _some(range(100), 40, 0) == _some(range(100), 40, 0) != _some(range(100), 40, 1)
    assert _some(labels, None, 0) is labels and _some(labels, 100, 0) is labels


def test_results_are_not_overwritten_unasked(localise: Localise, capsys: pytest.CaptureFixture[str]) -> None:
    assert localise(STEPS, "--plots=false") == 0
    assert localise(STEPS, "--plots=false") == ConfigError.exit_code
    assert "--overwrite true" in capsys.readouterr().err
    assert localise(STEPS, "--plots=false", "--overwrite=true") == 0


@pytest.mark.parametrize(
    ("args", "error", "told"),
    [
        ((), ConfigError, "nothing to localise"),
        ((DATA, "--copies=0"), ConfigError, "copies"),
        ((DATA, "--interval=0"), ConfigError, "interval"),
        ((STEPS, "--limit=0"), ConfigError, "limit"),
        ((DATA, "--data.selection=0", "--split=selection"), DataError, "selection split is empty"),
        ((STEPS, "--limit=1"), DataError, "2 different questions"),
        ((DATA, '--perturbations=[{"class_path": "SwappedOption"}]'), DataError, "could be corrupted"),
        ((DATA, "--data.sellection=1"), ConfigError, "selection"),
    ],
)
def test_what_cannot_work_is_said(
    localise: Localise, args: tuple[str, ...], error: type[ConfigError], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert localise(*args) == error.exit_code
    assert told in capsys.readouterr().err


def test_one_kind_of_solutions_has_no_f1(localise: Localise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import marked

    erroneous = [one for one in marked.MarkedGates().solutions() if one.label >= 0]
    monkeypatch.setattr(marked.MarkedGates, "solutions", lambda self: erroneous)
    assert localise(STEPS) == 0
    figures = strict(tmp_path / "out" / "summary.json")["natural"]["all"]
    assert figures["f1"]["reward"] == [None] * 3 and figures["accuracy_erroneous"]["reward"][0] is not None
