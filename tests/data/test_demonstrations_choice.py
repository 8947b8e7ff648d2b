"""Multiple choice from any folder, and one's own rows with options or messages."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rairl_lightning.data.demonstrations import JsonLines, MedReason, MMLUPro, MultipleChoice
from rairl_lightning.errors import DataError
from rairl_lightning.text.graders import Exact, Grade, OptionChoice


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pet(n: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"p{n}", "question": f"Pet {n} purrs. What is it?", "options": ["dog", "cat"], "answer": "B",
            "reasoning": f"Cat {n} purrs. The answer is (B).", **fields}  # fmt: skip


def folder(path: Path, *train: dict[str, Any], test: dict[str, Any] | None = None) -> str:
    write(path / "train.jsonl", [*train, pet(100), pet(101)])
    write(path / "test.jsonl", [test or pet(200, reasoning=None)])
    return str(path)


def test_the_prompt_lists_the_options_and_the_statement_is_not_said_twice(tmp_path: Path) -> None:
    splits = MultipleChoice(folder(tmp_path, pet(1, category="pets")), selection_fraction=0).splits()
    demo = splits.train[0]
    assert demo.prompt == "Pet 1 purrs. What is it?\nA. dog\nB. cat"
    assert (demo.id, demo.reasoning, demo.answer, demo.options) == ("p1", "Cat 1 purrs.", "B", ("dog", "cat"))
    assert demo.meta == {"category": "pets"} and splits.test[0].reasoning == ""
    assert MultipleChoice().grader == OptionChoice()
    assert MultipleChoice().grader("B. cat", demo) is Grade.RIGHT


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": "cat"}, {"answer": "(B)"}, {"answer": None, "answer_index": 1}, {"answer": None, "answer_idx": "B"},
        {"options": {"B": "cat", "A": "dog"}}, {"options": "Answer Choices:\nA. dog\nB. cat"},
        {"options": '["dog", "cat"]'},
        {"options": None, "choices": ["dog", "cat"]},
        {"question": "Pet 1 purrs. What is it?\nA. dog\nB. cat"}, {"answer": "cat", "answer_index": 1},
    ],
)  # fmt: skip
def test_options_and_answers_come_in_many_forms(tmp_path: Path, fields: dict[str, Any]) -> None:
    demo = MultipleChoice(folder(tmp_path, pet(1, **fields)), selection_fraction=0).splits().train[0]
    assert demo.prompt == "Pet 1 purrs. What is it?\nA. dog\nB. cat" and demo.answer == "B"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": "fox"}, r"train\.jsonl:1 has an answer that is none of its options"),
        ({"answer": 1}, r"(?s)train\.jsonl:1 has an answer .*answer_index"),
        ({"answer": None}, r"train\.jsonl:1 has no field 'answer'"),
        ({"options": None}, r"train\.jsonl:1 has no field 'options'"),
        ({"options": "dog or cat"}, r"train\.jsonl:1 has options without their letters"),
        ({"options": [str(n) for n in range(27)]}, r"train\.jsonl:1 has no choice"),
        ({"reasoning": None}, r"train\.jsonl:1 has no usable 'reasoning'"),
        ({"reasoning": "a <think> b"}, r"train\.jsonl:1 has a tag in its reasoning"),
        ({"id": "p100"}, r"'p100' is used twice"),
        ({"question": "Pet 200 purrs. What is it?"}, r"The same question is in"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MultipleChoice(folder(tmp_path, pet(1, **fields))).splits()


def test_experts_who_conclude_otherwise_or_do_not_argue_are_left_out_and_counted(tmp_path: Path) -> None:
    other = pet(1, reasoning="Dogs bark. The answer is (A).")
    silent = pet(2, reasoning="The answer is (B).")
    source = MultipleChoice(folder(tmp_path, other, silent, pet(3, reasoning="It purrs.")), selection_fraction=0)
    with pytest.warns(
        UserWarning, match=r"2 of 5 rows .*, train are left out: 1: .*another option.*jsonl:1\); 1: .*only a st"
    ):
        splits = source.splits()
    assert [demo.id for demo in splits.train] == ["p3", "p100", "p101"]
    write(tmp_path / "train.jsonl", [other])
    with pytest.raises(DataError, match=r"(?s)No row of .* can be used.*another option"):
        source.splits()


def test_medreason_reads_the_form_of_the_hub_and_needs_no_test(tmp_path: Path) -> None:
    explained = pet(1, options="Answer Choices:\nA. dog\nB. cat", answer="cat. Explanation: a dog barks")
    write(tmp_path / "train.jsonl", [explained, pet(2)])
    source = MedReason(str(tmp_path), selection_fraction=0)
    assert [demo.answer for demo in source.splits().train] == ["B", "B"] and source.splits().test == ()
    write(tmp_path / "medqa_test.jsonl", [pet(9, reasoning=None)])
    assert len(source.splits().test) == 1


def test_mmlu_pro_on_the_hub_learns_from_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((*args, kwargs["split"]))
        row = {"question_id": len(asked), "question": f"Q{len(asked)}?", "options": ["x", "y"], "answer": "A",
               "cot_content": "A: Since x. The answer is (A).", "category": "law"}  # fmt: skip
        return [row, {**row, "question_id": f"{len(asked)}b", "question": f"Q{len(asked)}b?"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    splits = MMLUPro().splits()
    assert asked == [("TIGER-Lab/MMLU-Pro", "default", "validation"), ("TIGER-Lab/MMLU-Pro", "default", "test")]
    (demo,) = splits.train
    assert demo.reasoning == "A: Since x." and demo.meta == {"category": "law"} and len(splits.test) == 2


# --- JsonLines ----------------------------------------------------------------------------------------------------


def test_jsonlines_takes_options_and_categories(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pet(1, answer="cat", category="pets", level=3), {**pet(2), "options": None}])
    first, second = JsonLines(path, selection_fraction=0, meta=("level",)).splits().train
    assert first.prompt.endswith("\nA. dog\nB. cat") and (first.answer, first.options) == ("B", ("dog", "cat"))
    assert first.meta == {"category": "pets", "level": "3"}
    assert second.options == () and second.prompt == "Pet 2 purrs. What is it?"
    grader = JsonLines(path).grader
    assert grader("cat", first) is Grade.RIGHT and grader("B", second) is Grade.RIGHT
    assert JsonLines(path, grader=Exact()).grader == Exact()


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} says"} for role in roles]


def test_messages_of_one_user_turn_are_a_prompt(tmp_path: Path) -> None:
    rows = [{"messages": turns(*roles), "reasoning": "r", "answer": "1"} for roles in (("user",), ("system", "user"))]
    demos = JsonLines(write(tmp_path / "a.jsonl", rows), selection_fraction=0).splits().train
    assert [demo.prompt for demo in demos] == ["user says", "user says"]


@pytest.mark.parametrize(
    "messages",
    [
        turns("user", "assistant"),
        turns("user", "assistant", "user"),
        turns("system"),
        turns("user", "user"),
        ["user"],
        [],
    ],
)
def test_conversations_are_refused(tmp_path: Path, messages: list[Any]) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": messages, "reasoning": "r", "answer": "1"}])
    with pytest.raises(
        DataError, match=r"(?s)a\.jsonl:1 has (messages that are not one question|no usable 'messages')"
    ):
        JsonLines(path).splits()


def test_a_file_to_test_on_alone(tmp_path: Path) -> None:
    splits = JsonLines(test=write(tmp_path / "a.jsonl", [pet(1, reasoning=None)])).splits()
    assert splits.train == splits.selection == () and len(splits.test) == 1
    with warnings.catch_warnings(), pytest.raises(DataError, match="no training demonstration, and no test question"):
        JsonLines().splits()
