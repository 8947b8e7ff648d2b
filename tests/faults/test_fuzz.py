"""10,000 hostile inputs: files end in a DataError, texts in a value, and none takes a second."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rairl_lightning.data.demonstrations import JsonLines
from rairl_lightning.data.demonstrations.records import read_records
from rairl_lightning.data.traces import MRGSM8K, PRM800K, ProcessSteps, TraceFile
from rairl_lightning.errors import DataError
from rairl_lightning.text.answers import answers_agree, extract_answer
from rairl_lightning.text.expressions import evaluate, tokenise
from rairl_lightning.text.graders import CountdownExpression, Exact, Grade, Mathematics, OptionChoice
from rairl_lightning.text.graders.mathematics_process import MATHEMATICS
from rairl_lightning.text.statements import final_statement
from rairl_lightning.text.steps import step_spans
from rairl_lightning.types import Demonstration

SECOND = 1.0
FEW = 40
"""Of how many inputs `make test` takes one."""

FRAGMENTS = [
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        r"\boxed{",
        "{",
        "}",
        "$",
        r"\$",
        r"\text{",
        r"\frac{1}{2}",
        "**",
    ),
    *(r"\(", r"\)", "(", ")", "[", "]", "-", "+", "/", "*", "%", "=", "==", ".", ",", "…", "。", "!", "?", '"', "'"),
    *("0", "1", "12", ",000", "1,000", "٣", "²", "½", "1e999", "A", "B.", "(C)", " or ", " and ", "x", "X", " x "),
    *(
        " ",
        "\n",
        "\r",
        "\t",
        "\0",
        "\v",
        "\x1c",
        "\x85",
        "\u2028",
        "\u202e",
        "\ud800",
        "\udc00",
        "e\u0301",
        "𝟙",
        "Dr. ",
    ),
    *("the answer is ", "The answer is: ", "#### ", "Step 1: ", "Hmm... "),
]
REPEATED = st.tuples(st.sampled_from(FRAGMENTS), st.integers(1, 1500)).map(lambda pair: pair[0] * pair[1])
ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
PIECES = st.one_of(st.sampled_from(FRAGMENTS), ANY_TEXT, REPEATED)
TEXT = st.lists(PIECES, max_size=12).map("".join)
ROW_TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), ANY_TEXT), max_size=6).map("".join)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-3, 99), st.integers(), st.floats(), ROW_TEXT)
VALUE = st.recursive(
    SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ROW_TEXT, inner, max_size=3))
)


def rows(*names: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows that have some of these fields, of any type."""
    row = st.dictionaries(st.one_of(st.sampled_from(names), ROW_TEXT), st.one_of(VALUE, TEXT), max_size=len(names) + 1)
    return st.lists(row, min_size=1, max_size=4)


@contextmanager
def within_a_second() -> Iterator[None]:
    """Time of the processor, which a machine that stands still does not spend; what goes on for ever is stopped."""

    def stop(*_: Any) -> None:
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 10 * SECOND)
    gc.disable()  # in a process full of libraries one collection may take most of a second
    started = time.process_time()
    try:
        yield
    finally:
        spent = time.process_time() - started
        gc.enable()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert spent < SECOND


def lines(path: Path, read: Callable[[], object]) -> Callable[[Any], None]:
    """Write rows as JSON lines, then read them with a source, which may refuse them in its own words."""

    def check(given_rows: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in given_rows), encoding="utf-8")
        with within_a_second(), suppress(DataError):
            read()

    return check


def raw(path: Path) -> Callable[[Any], None]:
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with within_a_second(), suppress(DataError):
            read_records(path)

    return check


def steps(text: str) -> None:
    with within_a_second():
        spans = step_spans(text)
        final_statement(text)
    flat = [place for span in spans for place in span]
    assert flat == sorted(flat) and all(text[start:end].strip() for start, end in spans)


QUESTIONS = [
    (Exact(), Demonstration("q", "?", "", "1/2")),
    (OptionChoice(), Demonstration("q", "?", "", "B", options=("cat", "dog", "1,000", "none of the above"))),
    (CountdownExpression(), Demonstration("q", "?", "", "99", {"numbers": "41 82 24", "target": "99"})),
]


def grades(texts: tuple[str, str]) -> None:
    trace, answer = texts
    with within_a_second():
        for grader, question in QUESTIONS:
            assert isinstance(grader(answer, question), Grade)
            assert isinstance(grader(extract_answer(trace), question), Grade)
            assert isinstance(grader.same(answer, trace, question), bool)
        assert answers_agree(answer, trace) == answers_agree(trace, answer)


def expressions(text: str) -> None:
    with within_a_second():
        evaluate(text)
        tokens = tokenise(text)
    assert all(text[token.start : token.end] == token.text for token in tokens)


CALCULATION = st.lists(st.sampled_from([*"0123456789+-*/(),.%$x ", "×", "÷", "−", "**", "//", "1,000"]), max_size=300)
JSONISH = st.lists(st.sampled_from([*'{}[]:,"\\0123456789eE+-. \n', "\\u", "d800", "null", "NaN"]), max_size=200)
BYTES = st.one_of(
    st.binary(max_size=400),
    JSONISH.map("".join).map(str.encode),
    rows("a").map(lambda value: "\n".join(map(json.dumps, value)).encode()),
    st.tuples(st.sampled_from(["[", '{"a":', "9", '"']), st.integers(1, 20000)).map(lambda p: (p[0] * p[1]).encode()),
)
DEMONSTRATION = ("question", "prompt", "messages", "reasoning", "answer", "options", "id", "category", "answer_index")
TRACES = ("id", "prompt", "question", "completion", "completions", "answer", "correct", "finished", "options")
STEPS = ("question", "problem", "steps", "label", "ratings", "id", "model_output_steps")
MARKED = (*STEPS, "model_output_solution_correctness", "model_output_solution_first_error_step")
ANSWERS = st.tuples(TEXT, st.one_of(TEXT, ROW_TEXT, CALCULATION.map("".join)))
Check = Callable[[Any], None]

TARGETS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Path], Check], int]] = {
    "JSON lines, as bytes": (BYTES, lambda folder: raw(folder / "x.jsonl"), 1500),
    "JSON, as bytes": (BYTES, lambda folder: raw(folder / "x.json"), 500),
    "CSV, as bytes": (BYTES, lambda folder: raw(folder / "x.csv"), 500),
    "gzipped lines, as bytes": (BYTES, lambda folder: raw(folder / "x.jsonl.gz"), 250),
    "Parquet, as bytes": (BYTES, lambda folder: raw(folder / "x.parquet"), 250),
    "demonstrations": (
        rows(*DEMONSTRATION),
        lambda f: lines(f / "x.jsonl", lambda: JsonLines(train=str(f / "x.jsonl"), meta=("id",)).splits()),
        1500,
    ),
    "traces": (
        rows(*TRACES),
        lambda f: lines(f / "x.jsonl", lambda: list(TraceFile(str(f / "x.jsonl")).questions())),
        1000,
    ),
    "marked steps": (
        rows(*STEPS),
        lambda f: lines(f / "x.jsonl", lambda: ProcessSteps(str(f / "x.jsonl")).solutions()),
        500,
    ),
    "rated steps": (rows(*STEPS), lambda f: lines(f / "x.jsonl", lambda: PRM800K(str(f / "x.jsonl")).solutions()), 250),
    "counted steps": (
        rows(*MARKED),
        lambda f: lines(f / "x.jsonl", lambda: MRGSM8K(str(f / "x.jsonl")).solutions()),
        250,
    ),
    "step splitter": (TEXT, lambda _: steps, 1250),
    "graders": (ANSWERS, lambda _: grades, 1250),
    "expressions": (st.one_of(CALCULATION.map("".join), TEXT), lambda _: expressions, 1000),
}
INPUTS = 10_000


def test_the_inputs_are_ten_thousand() -> None:
    assert sum(count for _, _, count in TARGETS.values()) == INPUTS


@pytest.mark.filterwarnings("ignore")  # rows that are left out are warned of
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("target", TARGETS)
def test_hostile_inputs(tmp_path: Path, fault: Any, target: str, full: bool) -> None:
    strategy, make, inputs = TARGETS[target]
    check, count = make(tmp_path), inputs if full else inputs // FEW

    @settings(max_examples=count, database=None, derandomize=not full, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def one(value: Any) -> None:
        check(value)

    with fault(f"hostile input: {target}", count):
        one()


LONG = 50_000


@pytest.mark.parametrize(
    "fragment",
    [pytest.param(one, marks=[pytest.mark.slow] if place % 6 else []) for place, one in enumerate(FRAGMENTS)],
)
def test_long_repetitions_take_no_longer_than_their_length_allows(fragment: str) -> None:
    """What grows with the square of the length shows at this one."""
    text = (fragment * LONG)[:LONG]
    answers = "".join(f"<answer>{number}</answer>" for number in range(10_000)) + f"<answer>{text[:1000]}</answer>"
    agreeing = "".join(f"<answer>{'$ ' * n}5{' $' * n}</answer>" for n in range(150))
    agreeing += "<answer>" + r"\text{}" * (LONG // 7) + "5</answer>"
    with within_a_second():
        step_spans(text)
    with within_a_second():
        extract_answer(text)
        extract_answer(f"<answer>{text}")
        extract_answer(answers)
        extract_answer(agreeing)
    with within_a_second():
        tokenise(text)
    with within_a_second():
        final_statement(text)
    grades((text, text[: LONG // 2]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mathematics_keeps_its_time(fault: Any) -> None:
    """In a process of its own, whose time is a wall clock's and whose start is not counted."""
    inputs, limit = 60, 0.5
    question = Demonstration("q", "?", "", "x + 1")
    powers = st.lists(
        st.sampled_from(["9", "^", "^{9", "!", "}", "(", ")", "x", r"\sqrt{", "+", r"\int "]), max_size=30
    )

    @settings(max_examples=inputs, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(powers.map("".join), ROW_TEXT))
    def one(answer: str) -> None:
        MATHEMATICS.equal("x", "y", 60)  # it is there
        assert isinstance(Mathematics(limit)(answer, question), Grade)

    with fault("hostile input: mathematics", inputs):
        one()
    MATHEMATICS.close()
