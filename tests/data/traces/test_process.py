"""Labels of the first wrong step, from every format, never out of range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rairl_lightning.data.traces import MRGSM8K, PRM800K, ProcessSteps, StepSource
from rairl_lightning.errors import DataError

STEPS = ["1 + 1 = 2", "2 + 2 = 5", "The answer is 5."]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def labels(source: StepSource) -> list[tuple[int, int]]:
    return [(one.label, len(one.steps)) for one in source.solutions()]


def test_processbench_under_either_name(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "q", "steps": STEPS, "label": 1, "subset": "gsm8k", "final_answer_correct": False},
        {"id": "b", "problem": "q", "steps": STEPS, "label": -1, "subset": "math", "generator": None},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    first, second = ProcessSteps(path).solutions()
    assert (first.id, first.prompt, first.steps, first.label, first.answer) == ("a", "q", tuple(STEPS), 1, "5")
    assert first.meta == {"subset": "gsm8k", "final_answer_correct": "false"} and second.meta == {"subset": "math"}
    assert second.label == -1
    assert [one.id for one in ProcessSteps(path, where={"subset": "math"}).solutions()] == ["b"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": 3}, r"(?s)a\.jsonl:2 has a label that is none of its steps.*0 to 2.*got: +3"),
        ({"label": -2}, r"(?s)a\.jsonl:2 has a label.*got: +-2"),
        ({"label": 1.5}, r"a\.jsonl:2 has no usable 'label'"),
        ({"label": None}, r"a\.jsonl:2 has no usable 'label'"),
        ({"label": 0, "steps": None}, r"a\.jsonl:2 has no usable 'steps'"),
        ({"label": 0, "steps": ["x", 5.5, None]}, r"a\.jsonl:2 has no usable 'steps\[2\]'"),
        ({"label": 0, "question": ""}, r"a\.jsonl:2 has no usable 'question'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"question": "q", "steps": STEPS, "label": 0}
    with pytest.raises(DataError, match=message):
        ProcessSteps(write(tmp_path / "a.jsonl", [good, {**good, **row}])).solutions()


def test_mr_gsm8k_counts_from_one(tmp_path: Path) -> None:
    def row(verdict: str, step: object) -> dict[str, Any]:
        return {"uuid": f"{verdict}-{step}", "question": "q", "model_output_steps": STEPS, "question_type": "original",
                "model_output_solution_correctness": verdict,
                "model_output_solution_first_error_step": step}  # fmt: skip

    path = write(tmp_path / "a.jsonl", [row("correct", "N/A"), row("wrong", 1), row("wrong", "3")])
    assert labels(MRGSM8K(path)) == [(-1, 3), (0, 3), (2, 3)]
    assert MRGSM8K(path).solutions()[1].meta == {"question_type": "original"}
    for verdict, step in (("wrong", 0), ("wrong", 4), ("wrong", "N/A"), ("correct", 1), ("maybe", 1), ("wrong", "two")):
        with pytest.raises(DataError, match=r"b\.jsonl:1"):
            MRGSM8K(write(tmp_path / "b.jsonl", [row(verdict, step)])).solutions()


def raw(*steps: dict[str, Any], finish: str = "solution") -> dict[str, Any]:
    """A row as PRM800K publishes it."""
    return {"labeler": "x", "question": {"problem": "q", "ground_truth_answer": "4"}, "generation": 9,
            "label": {"steps": list(steps), "total_time": 1, "finish_reason": finish}}  # fmt: skip


def step(*ratings: int | None, chosen: int | None = None, human: str | None = None) -> dict[str, Any]:
    completions = [{"text": f"try {n}", "rating": rating, "flagged": None} for n, rating in enumerate(ratings)]
    written = {"text": human, "rating": None, "flagged": False} if human else None
    return {"completions": completions, "human_completion": written, "chosen_completion": chosen}


def test_prm800k_follows_the_labeller_to_the_first_step_rated_wrong(tmp_path: Path) -> None:
    rows = [
        raw(step(1, chosen=0), step(-1, 0, chosen=1), step(1, chosen=0)),
        raw(step(1, chosen=0), step(-1), finish="found_error"),
        raw(step(1, chosen=0), step(-1, -1, human="by hand"), step(-1, chosen=0)),
    ]
    solutions = PRM800K(write(tmp_path / "a.jsonl", rows)).solutions()
    assert [one.label for one in solutions] == [-1, 1, 2]
    assert [one.steps for one in solutions[:2]] == [("try 0", "try 1", "try 0"), ("try 0", "try 0")]
    assert solutions[2].steps == ("try 0", "by hand", "try 0") and solutions[0].prompt == "q"
    assert solutions[0].meta == {"generation": "9"}


def test_prm800k_leaves_out_what_is_not_labelled_and_says_so(tmp_path: Path) -> None:
    rows = [raw(step(1, chosen=0)), raw(step(1, chosen=0), finish="give_up"), raw(step(None, chosen=0), step(-1))]
    with pytest.warns(
        UserWarning, match=r"2 of 3 rows .*1: the labeller gave up .*a\.jsonl:2\); 1: a step is not rated"
    ):
        assert labels(PRM800K(write(tmp_path / "a.jsonl", rows))) == [(-1, 1)]


def test_flat_ratings(tmp_path: Path) -> None:
    rows = [
        {"problem": "q", "steps": STEPS, "ratings": ratings} for ratings in ([1, 0, 1], [1, -1, None], [-1, -1, -1])
    ]
    assert labels(PRM800K(write(tmp_path / "a.jsonl", rows))) == [(-1, 3), (1, 2), (0, 1)]
    for ratings, message in (
        ([1, 1], "steps without a rating"),
        ([1, 2, -1], "unknown rating"),
        ([[1], 1, -1], "unknown rating"),
        ([], "no usable 'ratings'"),
    ):
        with pytest.raises(DataError, match=message):
            PRM800K(write(tmp_path / "b.jsonl", [{**rows[0], "ratings": ratings}])).solutions()


def test_odd_rows_are_left_out_or_read_and_do_not_refuse_a_file(tmp_path: Path) -> None:
    good = {"question": "q", "steps": STEPS, "label": 1.0}
    rows = [good, {**good, "steps": []}, {**good, "steps": ["x", " "]}, {**good, "label": "-1.0"}]
    with pytest.warns(UserWarning, match=r"2 of 4 rows .*it has no steps .*:2\).*a step has no text"):
        assert labels(ProcessSteps(write(tmp_path / "a.jsonl", rows))) == [(1, 3), (-1, 3)]
