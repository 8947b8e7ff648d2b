"""Countdown from files and from a seed, and AIME, which is for evaluation only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rairl_lightning.data.demonstrations import AIME, Countdown, GeneratedCountdown, Splits, check_disjoint
from rairl_lightning.data.demonstrations.countdown import puzzle_key
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.text.expressions import evaluate
from rairl_lightning.text.graders import Exact, Grade
from rairl_lightning.types import Demonstration


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(n: int, **fields: Any) -> dict[str, Any]:
    return {"nums": [n, 2], "target": n + 2, "answer": f"{n} + 2", "reasoning": f"{n} + 2 = {n + 2}", **fields}


# --- Countdown ----------------------------------------------------------------------------------------------------


def test_countdown_reads_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [row(3, id="x"), row(4)])
    write(tmp_path / "eval.jsonl", [row(5)])
    write(tmp_path / "test.jsonl", [row(6, reasoning=None)])
    splits = Countdown(str(tmp_path)).splits()
    assert [len(part) for part in (splits.train, splits.selection, splits.test)] == [2, 1, 1]
    demo = splits.train[0]
    assert demo.id == "x" and demo.meta == {"numbers": "3 2", "target": "5"}
    assert demo.prompt.startswith("Using the numbers [3, 2], create an expression that equals 5.")
    assert all(Countdown().grader(demo.answer, demo) is Grade.RIGHT for demo in splits.train)


def test_countdown_leaves_out_wrong_answers_tags_and_tested_puzzles_and_says_so(tmp_path: Path) -> None:
    wrong = [row(3, answer="3 * 2"), row(4, answer=""), row(5, answer="5 + 2 <answer>"), row(6, reasoning="a</answer>")]
    write(tmp_path / "train.jsonl", [*wrong, row(7, nums=[2, 7]), row(8), row(9), row(10)])
    write(tmp_path / "selection.jsonl", [row(8)])
    write(tmp_path / "test.jsonl", [row(7)])
    with pytest.warns(UserWarning) as told:
        splits = Countdown(str(tmp_path)).splits()
    assert [demo.answer for demo in splits.train] == ["9 + 2", "10 + 2"]
    first, second = (str(one.message) for one in told)
    assert "4 of 8" in first and "3: the answer does not make" in first and "1: a tag" in first
    assert "2 of 4" in second and "2: a later split has the same puzzle" in second


@pytest.mark.parametrize("nums", [[], [0, 1], ["3", 2], [1.5, 2], "3 2", None, [True, 2]])
def test_countdown_names_rows_without_numbers(tmp_path: Path, nums: Any) -> None:
    write(tmp_path / "train.jsonl", [row(3, nums=nums)])
    write(tmp_path / "test.jsonl", [row(9)])
    with pytest.raises(DataError, match=r"train\.jsonl:1 has no usable 'nums'"):
        Countdown(str(tmp_path)).splits()


@pytest.fixture(scope="module")
def generated() -> Splits:
    return GeneratedCountdown(train_size=200, selection_size=40, test_size=40).splits()


def test_generated_puzzles_are_solved_and_their_derivations_hold(generated: Splits) -> None:
    grader = GeneratedCountdown().grader
    for demo in generated.train + generated.selection + generated.test:
        assert grader(demo.answer, demo) is Grade.RIGHT
        numbers = demo.meta["numbers"].split()
        lines = demo.reasoning.splitlines()
        assert len(lines) == len(numbers) - 1 and all(1 <= int(number) <= 99 for number in numbers)
        for line in lines:
            left, right = line.split(" = ")
            assert evaluate(left) == evaluate(right) is not None
        assert lines[-1].endswith(f" = {demo.meta['target']}") and 1 <= int(demo.meta["target"]) <= 99


def test_generated_puzzles_are_the_same_again_and_shared_by_no_splits(generated: Splits) -> None:
    assert GeneratedCountdown(train_size=200, selection_size=40, test_size=40).splits() == generated
    assert GeneratedCountdown(train_size=200, selection_size=40, test_size=40, seed=1).splits() != generated
    train, selection, test = (
        {puzzle_key(demo)[0] for demo in part} for part in (generated.train, generated.selection, generated.test)
    )
    assert not train & selection and not train & test and not selection & test and len(train) == 200
    operators = {sign for demo in generated.train for sign in "+-*/" if f" {sign} " in demo.answer}
    assert operators == set("+-*/")


def test_impossible_puzzles_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_numbers <= max_numbers"):
        GeneratedCountdown(min_numbers=4, max_numbers=3)
    with pytest.raises(ConfigError, match=r"(?s)too few different train puzzles.*raise largest"):
        GeneratedCountdown(train_size=10_000, min_numbers=2, max_numbers=2, largest=5).splits()


# --- AIME ---------------------------------------------------------------------------------------------------------


def test_aime_is_a_test_split_alone(tmp_path: Path) -> None:
    write(tmp_path / "aime_2024.jsonl", [{"id": "aime-2024-I-01", "problem": "p?", "answer": "073"}])
    write(tmp_path / "aime_2025.jsonl", [{"id": 0, "problem": "q?", "answer": 70.0}])
    splits = AIME(str(tmp_path)).splits()
    assert splits.train == splits.selection == ()
    assert [(demo.id, demo.answer) for demo in splits.test] == [("aime-2024-I-01", "73"), ("aime-2025-0", "70")]
    grader = AIME().grader
    assert grader(r"\boxed{073}", splits.test[0]) is Grade.RIGHT and grader("74", splits.test[0]) is Grade.WRONG
    assert AIME(years=(2024,), grader=Exact()).grader == Exact()
    assert len(AIME(str(tmp_path), years=(2025,)).splits().test) == 1


def test_aime_refuses_other_years_and_answers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such years"):
        AIME(years=(1983,))
    with pytest.raises(DataError, match="one file for 'aime_1983'"):
        AIME(str(tmp_path), years=(1983,)).splits()
    for answer in ("1000", "-1", "1.5", "x"):
        write(tmp_path / "aime_2024.jsonl", [{"problem": "p?", "answer": answer}])
        with pytest.raises(DataError, match=r"aime_2024\.jsonl:1 has no AIME answer"):
            AIME(str(tmp_path), years=(2024,)).splits()


# --- What may be chosen on ----------------------------------------------------------------------------------------


def asked(id: str, prompt: str) -> Demonstration:
    return Demonstration(id, prompt, "r", "1")


def test_nothing_is_chosen_on_the_test_split() -> None:
    splits = Splits((asked("1", "a"),), (asked("2", "b"),), (asked("3", "c"),))
    assert splits.to_choose_on("selection") == splits.selection and splits.to_choose_on("train") == splits.train
    for split in ("test", "tset"):
        with pytest.raises(ConfigError, match=rf"Nothing may be chosen on the {split} split"):
            splits.to_choose_on(split)
    with pytest.raises(DataError, match="selection split is empty"):
        Splits((asked("1", "a"),)).to_choose_on("selection")


def test_a_question_to_choose_on_is_not_reported_on() -> None:
    check_disjoint([asked("1", "a")], [asked("2", "b")])
    with pytest.raises(DataError, match=r"(?s)ids '1' and '9'.*selection split"):
        check_disjoint([asked("1", "How many?")], [asked("2", "b"), asked("9", " how  MANY?")])
