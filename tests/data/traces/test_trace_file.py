"""Files of traces: either shape, every kind of file, graded here, and every complaint with its line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from rairl_lightning.data.traces import AsIs, SampledQuestion, TraceFile
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.evaluation.scoring import traces_of
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.graders import CountdownExpression, Exact, Grade

RIGHT, WRONG, UNANSWERED = Grade.RIGHT, Grade.WRONG, Grade.UNANSWERED
TEXTS = ["1 + 1 = 2. The answer is 2.", "It is 3.\n#### 3", "cut off", "So the answer is 2.0."]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def read(path: str, **settings: Any) -> list[SampledQuestion]:
    return list(TraceFile(path, **settings).questions())


def expected(question: SampledQuestion) -> None:
    assert question.question.prompt == "How much is 1 + 1?" and question.question.answer == "2"
    assert question.grades == (RIGHT, WRONG, UNANSWERED, RIGHT)
    assert question.answers == ("2", "3", None, "2.0") and question.classes == (0, 1, -1, 0)
    assert question.completions[0] == render_completion("1 + 1 = 2.", "2")
    assert question.completions[2] == "<think>\ncut off"
    assert len(question.records) == 4


def wide() -> dict[str, Any]:
    return {"id": "q1", "question": "How much is 1 + 1?", "answer": "2", "completions": TEXTS}


def tall() -> list[dict[str, Any]]:
    row = {key: value for key, value in wide().items() if key != "completions"}
    return [{**row, "output": text} for text in TEXTS]


def test_a_row_a_question_and_a_row_a_trace_give_the_same(tmp_path: Path) -> None:
    other = {"id": "q2", "prompt": "2 + 2?", "answer": "4", "response": "The answer is 4."}
    for rows in ([wide(), other], [*tall()[:2], other, *tall()[2:]]):
        first, second = read(write(tmp_path / "a.jsonl", rows))
        expected(first)
        assert second.question.id == "q2" and second.grades == (RIGHT,)
        assert [record.get("output", record.get("completion")) for record in first.records] == TEXTS


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "a.csv"])
@pytest.mark.parametrize("rows", [[wide()], tall()], ids=["wide", "tall"])
def test_every_kind_of_file(tmp_path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows])
    else:
        write(path, rows)
    (question,) = read(str(path))
    expected(question)


def test_options_are_written_into_the_prompt_and_the_answer_becomes_a_letter(tmp_path: Path) -> None:
    row = {"question": "Which purrs?", "options": ["cat", "dog"], "category": "pets",
           "completions": ["Cats. The answer is cat.", "The answer is (B).", "The answer is A and B."]}  # fmt: skip
    for key in ({"answer": "A"}, {"answer": "cat"}, {"answer_index": 0}, {"answer": "(A)", "answer_idx": "A"}):
        (question,) = read(write(tmp_path / "a.jsonl", [{**row, **key}]))
        assert question.question.prompt == "Which purrs?\nA. cat\nB. dog" and question.question.answer == "A"
        assert question.grades == (RIGHT, WRONG, UNANSWERED) and question.classes == (0, 1, -1)
        assert question.question.meta == {"category": "pets"}


def test_questions_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    asked = write(tmp_path / "q.jsonl", [{"question_id": 7, "question": "1 + 1?", "answer": 2, "category": "easy"}])
    more = write(tmp_path / "r.jsonl", [{"id": "8", "question": "2 + 2?", "answer": 4}])
    rows = [
        {"question_id": 7, "output": "The answer is 2."},
        {"id": 8, "output": "The answer is 4."},
        {"id": 7, "text": "."},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    first, second = read(path, question_files=(asked, more))
    assert (first.question.id, first.question.meta, first.grades) == ("7", {"category": "easy"}, (RIGHT, UNANSWERED))
    assert second.grades == (RIGHT,)
    with pytest.warns(UserWarning, match=r"(?s)1 of 3 rows of .*question file \(first: .*t\.jsonl:2\)"):
        assert len(read(path, question_files=(asked,))) == 1
    absent = write(tmp_path / "s.jsonl", [{"id": "x", "output": "."}])
    with pytest.raises(DataError, match=r"(?s)No row of .*s\.jsonl can be used.*in no question file"):
        read(absent, question_files=(asked,))
    with pytest.raises(DataError, match=r"(?s)t\.jsonl:1 does not say what was asked.*question_files"):
        read(path)


def test_where_chooses_rows(tmp_path: Path) -> None:
    rows = [
        {**row, "model": model, "short": short}
        for row, model, short in zip(tall(), "aabb", (True, False) * 2, strict=True)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    assert read(path, where={"model": "a"})[0].grades == (RIGHT, WRONG)
    assert read(path, where={"model": "b", "short": "true"})[0].grades == (UNANSWERED,)
    with pytest.raises(DataError, match=r"(?s)no row where model is 'c'.*expected: a, b"):
        read(path, where={"model": "c"})
    with pytest.raises(DataError, match=r"(?s)no row where modle is 'a'.*a field that the file has"):
        read(path, where={"modle": "a"})


def test_the_file_is_believed_only_where_there_is_no_right_answer(tmp_path: Path) -> None:
    rows = [{**row, "correct": mark} for row, mark in zip(tall(), (False, True, None, None), strict=True)]
    expected(read(write(tmp_path / "a.jsonl", rows))[0])
    keyless = [{key: value for key, value in row.items() if key != "answer"} for row in rows]
    (question,) = read(write(tmp_path / "b.jsonl", keyless))
    assert question.grades == (WRONG, RIGHT, UNANSWERED, Grade.UNKNOWN) and question.question.answer == ""
    broad = {key: value for key, value in wide().items() if key != "answer"} | {"correct": [True, False, False, True]}
    assert read(write(tmp_path / "c.jsonl", [broad]))[0].grades == (RIGHT, WRONG, WRONG, RIGHT)


def test_whether_a_text_was_finished_is_told_of_the_text_that_was_sampled(tmp_path: Path) -> None:
    marks = [True, "False", None, 1]
    rows = [{**row, "finished": mark} for row, mark in zip(tall(), marks, strict=True)]
    as_is = read(write(tmp_path / "a.jsonl", rows), layout=AsIs())
    assert as_is[0].finished == (True, False, None, True)
    assert read(write(tmp_path / "b.jsonl", rows))[0].finished == (None,) * 4, "laid out anew"
    broad = wide() | {"completions": [render_completion("1", "2"), "cut <think>"], "finished": [True, False]}
    (question,) = read(write(tmp_path / "c.jsonl", [broad]))
    assert question.finished == (True, False) and question.records[1]["finished"] is False
    assert read(write(tmp_path / "d.jsonl", [wide()]), layout=AsIs())[0].finished == (None,) * 4


def test_limit_layout_grader_and_meta_are_choices(tmp_path: Path) -> None:
    rows = [{"prompt": f"Make {n}.", "nums": [1, n], "answer": "-", "target": n + 1, "text": f"The answer is 1 + {n}"}
            for n in range(2, 5)]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [{**row, "numbers": row["nums"]} for row in rows])
    settings = {"meta": ("numbers", "target"), "limit": 2}
    assert [q.grades for q in read(path, grader=CountdownExpression(), **settings)] == [(RIGHT,), (RIGHT,)]
    first, _ = read(path, layout=AsIs(), grader=Exact(), **settings)
    assert first.grades == (WRONG,) and first.completions == ("The answer is 1 + 2",)
    assert first.question.meta == {"numbers": "[1, 2]", "target": "3"}
    with pytest.raises(ConfigError, match="limit is too small"):
        TraceFile(path, limit=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "2", "output": "x"}, r"a\.jsonl:2 does not say what was asked"),
        ({"question": "q", "answer": "2"}, r"a\.jsonl:2 has no field 'completions' or"),
        ({"question": "q", "output": "x"}, r"a\.jsonl:2 has no field 'answer'"),
        ({"question": "q", "answer": "2", "output": 5}, r"a\.jsonl:2 has a trace that is no text"),
        ({"question": "q", "answer": "2", "output": None}, r"a\.jsonl:2 has a trace that is no text"),
        ({"question": "q", "answer": "2", "completions": ["x", None]}, r"a\.jsonl:2 has a trace that is no text"),
        ({"question": "q", "answer": "2", "completions": []}, r"a\.jsonl:2 has no usable 'completions'"),
        ({"question": "q", "answer": "2", "completions": "x"}, r"a\.jsonl:2 has no usable 'completions'"),
        (
            {"question": "How much is 1 + 1?", "answer": "3", "output": "x"},
            r"a\.jsonl:1 and .*a\.jsonl:2 are of one question",
        ),
        ({"question": "q", "options": ["a", "b"], "answer": "C", "output": "x"}, r"(?s):2 has an answer that is none"),
        ({"question": "q", "options": ["a", "b"], "answer": "A", "answer_index": 1, "output": "x"}, r"(?s):2 .*says B"),
        ({"question": "q", "options": ["a"], "answer": "A", "output": "x"}, r"(?s):2 has no choice.*got: +1"),
        (
            {"question": "q", "options": {"A": "x", "C": "y"}, "answer": "A", "output": "x"},
            r"(?s):2 has options without",
        ),
        ({"question": "q", "options": ["a", ""], "answer": "A", "output": "x"}, r"(?s):2 has no usable 'options\[1\]'"),
        (
            {"question": "q", "options": ["a", "b"], "answer_index": 2, "output": "x"},
            r"(?s):2 .*'answer_index'.*0 to 1",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.jsonl", [tall()[0], row])
    with pytest.raises(DataError, match=message):
        read(path)


def test_an_empty_trace_says_nothing_and_is_no_error(tmp_path: Path) -> None:
    (question,) = read(
        write(tmp_path / "a.jsonl", [{"question": "q", "answer": "2", "completions": ["", "The answer is 2."]}])
    )
    assert question.grades == (UNANSWERED, RIGHT)


def test_a_gold_that_is_a_gsm8k_solution_is_its_final_line(tmp_path: Path) -> None:
    row = {"question": "How much is 600 + 600?", "answer": "600 + 600 = <<600+600=1200>>1200\n#### 1,200"}
    [question] = read(write(tmp_path / "a.jsonl", [{**row, "completions": ["The answer is 1200.", "#### 600"]}]))
    assert question.question.answer == "1200" and question.grades == (RIGHT, WRONG)


def test_marks_are_numbers_or_words_and_nothing_else(tmp_path: Path) -> None:
    row = {"question": "How much is 1 + 1?"}
    marks = [1, 0, 1.0, "1", "0", "True", "false ", True, None, ""]
    rows = [{**row, "completion": "The answer is 2.", "correct": mark} for mark in marks]
    [question] = read(write(tmp_path / "a.jsonl", rows))
    unknown = Grade.UNKNOWN
    assert question.grades == (RIGHT, WRONG, RIGHT, RIGHT, WRONG, RIGHT, WRONG, RIGHT, unknown, unknown)
    broad = {**row, "completions": TEXTS[:2]}
    for n, listed in enumerate(([1, 0], "[1, 0]")):
        [question] = read(write(tmp_path / f"b{n}.jsonl", [{**broad, "correct": listed}]))
        assert question.grades == (RIGHT, WRONG)
    for n, odd in enumerate((2, "yes", 0.5, [1], [1, 0, 1], [1, "maybe"])):
        path = write(tmp_path / f"c{n}.jsonl", [{**broad, "correct": True}, {**broad, "correct": odd}])
        with pytest.raises(DataError, match=rf"c{n}\.jsonl:2 has no usable 'correct'"):
            read(path)
    assert read(write(tmp_path / "d.jsonl", [{**broad, "answer": "2", "correct": [1]}]))[0].grades == (RIGHT, WRONG)


def test_a_field_that_is_null_is_not_there(tmp_path: Path) -> None:
    rows = [{"question": "How much is 1 + 1?", "answer": "2", "completions": None, "completion": "#### 2"}]
    assert read(write(tmp_path / "a.jsonl", rows))[0].grades == (RIGHT,)


def test_rows_of_several_questions_come_back_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": "2", "text": f"{n}. The answer is 2."} for n, q in enumerate("abcab")]
    path = write(tmp_path / "a.jsonl", [*rows, {"question": "a", "answer": "2", "completions": ["5", "6"]}])
    assert [question.rows for question in read(path)] == [(1, 4, 6, 6), (2, 5), (3,)]
    traces = list(traces_of(TraceFile(path, layout=AsIs())))
    assert [trace.completion[0] for trace in traces] == list("0123456")
    assert [trace.question.prompt for trace in traces] == list("abcabaa")


def test_a_number_as_the_answer_among_options_is_not_guessed_at(tmp_path: Path) -> None:
    row = {"question": "Half of 4?", "choices": ["4", "2", "1", "0"], "output": "The answer is B."}
    with pytest.raises(DataError, match=r"(?s)a\.jsonl:1 .*belongs into answer_index"):
        read(write(tmp_path / "a.jsonl", [{**row, "answer": 2}]))
    for n, known in enumerate(({"answer": "2"}, {"answer": 2, "answer_index": 1}, {"answer_index": 1})):
        assert read(write(tmp_path / f"b{n}.jsonl", [{**row, **known}]))[0].grades == (RIGHT,)
