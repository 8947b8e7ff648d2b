"""Files are read strictly: every complaint names the file and the line."""

import csv
import gzip
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from rairl_lightning.data.demonstrations import GSM8K, JsonLines
from rairl_lightning.data.demonstrations.records import looks_like_hub_id, read_hub, read_records
from rairl_lightning.errors import DataError

ROWS = [
    {"id": f"r{n}", "question": f"What is {n} + 1?", "reasoning": f"{n} + 1 = {n + 1}", "answer": str(n + 1)}
    for n in range(30)
]


def write(path, rows):
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("name", "writer"),
    [("a.jsonl", write), ("a.jsonl.gz", write), ("a.csv", write_csv), ("a.parquet", write_parquet)],
)
def test_every_kind_of_file_gives_the_same_demonstrations(tmp_path, name, writer):
    path = tmp_path / name
    writer(path, ROWS)
    splits = JsonLines(str(path), selection_fraction=0.2).splits()
    assert {d.id for d in splits.train + splits.selection} == {row["id"] for row in ROWS}
    first = next(d for d in splits.train + splits.selection if d.id == "r0")
    assert (first.prompt, first.reasoning, first.answer) == ("What is 0 + 1?", "0 + 1 = 1", "1")
    assert splits.test == ()


def test_jsonlines_takes_files_for_every_split(tmp_path):
    train = write(tmp_path / "train.jsonl", [{**row, "level": "easy"} for row in ROWS[:10]])
    selection = write(tmp_path / "sel.jsonl", [{"prompt": "x?", "answer": 7}])
    test = write(tmp_path / "test.jsonl", ["", json.dumps({"question": "y?", "answer": 2.5}), ""])
    splits = JsonLines(train, selection, test, train_limit=4, meta=("level", "absent")).splits()
    assert [d.id for d in splits.train] == ["r0", "r1", "r2", "r3"] and splits.train[0].meta == {"level": "easy"}
    assert [(d.id, d.prompt, d.answer, d.reasoning) for d in splits.selection] == [("selection-0", "x?", "7", "")]
    assert [(d.id, d.answer) for d in splits.test] == [("test-0", "2.5")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"bad\.jsonl:2 is not JSON"),
        ("[1, 2]", r"(?s)bad\.jsonl:2 is not a record.*got: +list"),
        ("[" * 100_000, r"bad\.jsonl:2 is not JSON"),
        ({"question": "q", "reasoning": "r"}, r"bad\.jsonl:2 has no field 'answer'"),
        ({"question": "q", "reasoning": "r", "anwser": "5"}, r"(?s)bad\.jsonl:2 .*did you mean 'anwser'"),
        ({"question": "q", "reasoning": "r", "answer": ""}, r"bad\.jsonl:2 has no usable 'answer'"),
        ({"question": "q", "reasoning": "r", "answer": None}, r"(?s)bad\.jsonl:2 has no usable 'answer'.*got: +None"),
        ({"question": "q", "reasoning": "r", "answer": True}, r"bad\.jsonl:2 has no usable 'answer'"),
        ({"question": ["q"], "reasoning": "r", "answer": "5"}, r"bad\.jsonl:2 has no usable 'question'"),
        ({"question": "q", "answer": "5"}, r"bad\.jsonl:2 has no field 'reasoning'"),
        ({"reasoning": "r", "answer": "5"}, r"bad\.jsonl:2 has no field 'prompt' or 'question'"),
        ({"question": "q", "reasoning": "<think>r", "answer": "5"}, r"bad\.jsonl:2 has a tag in its reasoning"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "bad.jsonl", [ROWS[0], line, ROWS[1]])
    with pytest.raises(DataError, match=message):
        JsonLines(path).splits()


def test_files_that_cannot_be_read(tmp_path):
    good = tmp_path / "train.jsonl"
    write(good, ROWS)
    with pytest.raises(DataError, match=r"(?s)trian\.jsonl is not there.*did you mean .*train\.jsonl"):
        read_records(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"(?s)unknown kind.*\.jsonl\.gz"):
        read_records(tmp_path / "train.txt")
    with pytest.raises(DataError, match=r"empty\.jsonl is empty"):
        read_records_of(tmp_path / "empty.jsonl", b"\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_records_of(tmp_path / "latin.jsonl", b'{"a": "\xe9"}')
    with pytest.raises(DataError, match="cannot be read"):
        read_records_of(tmp_path / "plain.jsonl.gz", good.read_bytes())
    with pytest.raises(DataError, match="cannot be read"):
        read_records_of(tmp_path / "cut.jsonl.gz", gzip.compress(good.read_bytes())[:-20])
    with pytest.raises(DataError, match="is not Parquet"):
        read_records_of(tmp_path / "a.parquet", b"no")
    with pytest.raises(DataError, match=r"a\.csv:3 has too many or too few cells"):
        read_records_of(tmp_path / "a.csv", b"question,answer\nq,5\nq\n")
    with pytest.raises(DataError, match=r"b\.csv:3 is not CSV"):
        read_records_of(tmp_path / "b.csv", b'question,answer\nq,5\nq,"5" 6\n')


def read_records_of(path, content):
    path.write_bytes(content)
    return read_records(path)


def test_csv_lines_are_lines_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,reasoning,answer\n"two\nlines",r,5\nq,r,\n')
    with pytest.raises(DataError, match=r"a\.csv:4 has no usable 'answer'"):
        JsonLines(str(path)).splits()


def gsm8k_rows(count, offset=0):
    return [{"question": f"How many are {n}?", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n\nDone.\n#### {n + 1:,}"}
            for n in range(offset, offset + count)]  # fmt: skip


def test_gsm8k_from_a_folder(tmp_path):
    write(tmp_path / "train.jsonl.gz", gsm8k_rows(40))
    write_parquet(tmp_path / "test-00000-of-00001.parquet", gsm8k_rows(3, offset=1000))
    splits = GSM8K(str(tmp_path), selection_fraction=0.25, test_limit=2).splits()
    assert len(splits.train) + len(splits.selection) == 40 and len(splits.selection) > 2
    assert [(d.id, d.reasoning, d.answer) for d in splits.test] == [
        ("gsm8k-test-0", "It is 1001.\nDone.", "1001"),
        ("gsm8k-test-1", "It is 1002.\nDone.", "1002"),
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("no last line", r"train\.jsonl:2 has no final answer"),
        ("steps\n####", r"train\.jsonl:2 has no final answer"),
        ("steps\n#### five", r"train\.jsonl:2 has no final answer"),
        ("#### 5", r"train\.jsonl:2 has no reasoning"),
    ],
)
def test_gsm8k_rows_without_an_answer_are_named(tmp_path, answer, message):
    write(tmp_path / "train.jsonl", [*gsm8k_rows(1), {"question": "q", "answer": answer}])
    write(tmp_path / "test.jsonl", gsm8k_rows(1, offset=9))
    with pytest.raises(DataError, match=message):
        GSM8K(str(tmp_path)).splits()


def test_gsm8k_needs_one_file_a_split(tmp_path):
    write(tmp_path / "train.jsonl", gsm8k_rows(2))
    with pytest.raises(DataError, match=r"(?s)one file for 'test'.*got: +none"):
        GSM8K(str(tmp_path)).splits()
    write(tmp_path / "train.jsonl.gz", gsm8k_rows(2))
    with pytest.raises(DataError, match=r"(?s)one file for 'train'.*train\.jsonl, train\.jsonl\.gz"):
        GSM8K(str(tmp_path)).splits()
    with pytest.raises(DataError, match="is not a folder"):
        GSM8K(str(tmp_path / "absent")).splits()


def test_gsm8k_refuses_a_test_question_in_train(tmp_path):
    write(tmp_path / "train.jsonl", gsm8k_rows(20))
    write(tmp_path / "test.jsonl", gsm8k_rows(1, offset=5))
    with pytest.raises(DataError, match="The same question is in"):
        GSM8K(str(tmp_path)).splits()


class FakeHub:
    """Stands in for the package datasets."""

    def __init__(self, result):
        self.result = result
        self.calls = []

    def load_dataset(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_the_hub_is_asked_without_remote_code(monkeypatch):
    hub = FakeHub(gsm8k_rows(30))
    monkeypatch.setitem(sys.modules, "datasets", hub)
    records = read_hub("openai/gsm8k", "main", "train")
    assert hub.calls == [(("openai/gsm8k", "main"), {"split": "train"})]
    assert records[1].where == "openai/gsm8k/train:2" and records[1].text("question") == "How many are 1?"


def test_a_failing_hub_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(ConnectionError("offline")))
    with pytest.raises(DataError, match=r"(?s)openai/gsm8k is neither a local folder.*offline.*give the folder"):
        GSM8K("openai/gsm8k").splits()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        read_hub("openai/gsm8k", "main", "train")


def test_a_folder_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not looks_like_hub_id("owner/name") and looks_like_hub_id("owner/other")
    assert not any(map(looks_like_hub_id, ["/owner/name", "./a", "../a/b", "a/b/c", "name", "C:\\a", ""]))
