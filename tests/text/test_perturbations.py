"""Every perturbation changes something, says exactly where, and leaves the rest alone."""

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.data.demonstrations import GSM8K, Arithmetic
from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.equations import find_equations
from rairl_lightning.text.expressions import OPERATORS
from rairl_lightning.text.perturbations import (
    NudgedAnswer,
    NumberCorruption,
    OperatorFlip,
    Perturbation,
    changed_span,
    corrupt,
)
from rairl_lightning.types import Demonstration

GSM8K_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"
KINDS = [OperatorFlip(), NumberCorruption(), NudgedAnswer()]
PIECES = ["5", "3", "0", " ", "+", "-", "*", "/", "=", "x", "\n", ".", "8", "eggs", "(", ")"]
prose = st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.fixture(scope="module")
def demonstrations():
    if not GSM8K_FOLDER.is_dir():
        pytest.skip(f"real GSM8K is not at {GSM8K_FOLDER}")
    return GSM8K(str(GSM8K_FOLDER)).splits().test


def tries(perturbation, reasoning, answer="9", count=60):
    """The different outcomes over many seeds."""
    return {perturbation(reasoning, answer, random.Random(seed)) for seed in range(count)}


def assert_only_the_span_changed(before, corruption):
    """The span holds the new characters; what is around it is the old text, and both ends of it are new."""
    after = render_completion(corruption.reasoning, corruption.answer)
    start, end = corruption.span
    tail = len(after) - end
    old = before[start : len(before) - tail]
    assert before[:start] == after[:start] and before[len(before) - tail :] == after[end:]
    assert 0 <= start < end <= len(after) and old != after[start:end]
    assert old[:1] != after[start] and old[-1:] != after[end - 1]
    return old, after[start:end]


def test_operator_flip_by_hand():
    corruptions = tries(OperatorFlip(), "- Week 1-2: a 10-minute walk\n- so 8 - 2 = 6 walks *now*")
    assert {c.reasoning.splitlines()[1] for c in corruptions} == {
        f"- so 8 {sign} 2 = 6 walks *now*" for sign in ("+", "*", "/")
    }
    for corruption in corruptions:
        assert corruption.reasoning.startswith("- Week 1-2: a 10-minute walk\n") and corruption.answer == "9"
        assert corruption.span == (8 + 29 + 7, 8 + 29 + 8) and corruption.kind == "OperatorFlip"


@pytest.mark.parametrize(
    "reasoning",
    [
        "",
        "no digits",
        "- bullet",
        "a 3-5 range",
        "on 1/2/2020",
        "2 + 2 x 0",
        "pages 1-2 = 96",
        "x - 5 = 3",
        "2R - 7 = 98",
    ],
)
def test_operator_flip_rejects_what_is_no_equation(reasoning):
    assert tries(OperatorFlip(), reasoning) == {None}


def test_operator_flip_never_keeps_the_value():
    assert {c.reasoning for c in tries(OperatorFlip(), "2 + 2 = 4")} == {"2 - 2 = 4", "2 / 2 = 4"}
    assert {c.reasoning for c in tries(OperatorFlip(), "5 - 0 = 5")} == {"5 * 0 = 5"}, "nor divides by zero"


def test_operator_flip_writes_in_the_style_of_the_trace():
    reasonings = {c.reasoning for c in tries(OperatorFlip(), "3 × 4 = 12\n12 ÷ 4 = 3\n3 + 1 = 4")}
    assert not any("*" in r or "/" in r for r in reasonings)
    assert any(r.endswith("3 × 1 = 4") for r in reasonings) and any(r.endswith("3 ÷ 1 = 4") for r in reasonings)


def test_operator_flip_reads_other_arithmetic_if_it_is_spaced():
    assert {c.reasoning for c in tries(OperatorFlip(), "8 + 3 = 1")} == {f"8 {sign} 3 = 1" for sign in "-*/"}
    assert tries(OperatorFlip(), "8+3 = 1") == {None}


def test_number_corruption_by_hand():
    corruptions = tries(NumberCorruption(), "1. Step 2: 20 eggs and 5 - 0 = 5 B12", count=300)
    reasonings = {c.reasoning for c in corruptions}
    assert all(r.startswith("1. Step 2: ") and r.endswith(" B12") for r in reasonings)
    assert all(len(r) == len("1. Step 2: 20 eggs and 5 - 0 = 5 B12") for r in reasonings), (
        "no number changes its length"
    )
    assert {r.split()[3] for r in reasonings} == {"20", "10", "30", "40", "50", "21", "22", "23"}
    assert all(c.answer == "9" and c.span[1] - c.span[0] == 1 for c in corruptions)


def test_number_corruption_never_leaves_an_equation_right():
    assert all(c.reasoning.startswith("5 *") for c in tries(NumberCorruption(), "5 * 0 = 0")), "5 is no evidence"


@pytest.mark.parametrize("reasoning", ["", "no digits", "Step 1", "1. B12", "the 5th of"])
def test_number_corruption_rejects_text_without_quantities(reasoning):
    assert tries(NumberCorruption(), reasoning) == {None}


def test_nudged_answer_by_hand():
    assert {c.answer for c in tries(NudgedAnswer(), "r", "1,0")} > {"2,0", "1,1"}
    corruptions = tries(NudgedAnswer(), "so 48", "48")
    assert {c.answer for c in corruptions} == {"18", "28", "38", "58", "68", "78", "45", "46", "47", "49"}
    start = len(render_completion("so 48", "")) - len("\n</answer>")
    assert all(c.reasoning == "so 48" and start <= c.span[0] < c.span[1] <= start + 2 for c in corruptions)
    assert {c.answer for c in tries(NudgedAnswer(), "r", "B")} == {"A", "C", "D"}
    assert {c.answer for c in tries(NudgedAnswer(), "r", "F")} == set("ABCDE")
    assert {c.answer for c in tries(NudgedAnswer(), "r", "19 + 39")} > {"18 + 39", "19 + 38"}


@pytest.mark.parametrize("answer", ["Paris", "", "five", "B12"])
def test_nudged_answer_rejects_what_has_no_neighbour(answer):
    assert tries(NudgedAnswer(), "reasoning", answer) == {None}


def test_a_nudge_that_still_agrees_is_rejected():
    class SameValue(NudgedAnswer):
        def _nudged(self, answer, rng):
            return f"{answer}.0"

    assert SameValue()("r", "5", random.Random(0)) is None


def test_a_perturbation_that_changes_nothing_is_rejected():
    @dataclass(frozen=True)
    class Nothing(Perturbation):
        def rewrite(self, reasoning, answer, rng):
            return reasoning + "\n", answer

    assert Nothing()("r", "5", random.Random(0)) is None


@given(st.text(), st.text())
def test_changed_span_is_the_smallest(before, after):
    start, end = changed_span(f"<{before}>", f"<{after}>")
    if before != after:
        old, new = f"<{before}>", f"<{after}>"
        assert old[:start] == new[:start] and old.endswith(new[end:])


@given(prose, prose, st.integers(0, 99))
def test_no_text_makes_a_perturbation_raise_or_point_elsewhere(reasoning, answer, seed):
    for perturbation in KINDS:
        corruption = perturbation(reasoning, answer, random.Random(seed))
        assert corruption == perturbation(reasoning, answer, random.Random(seed))
        if corruption is not None:
            assert_only_the_span_changed(render_completion(reasoning, answer), corruption)


def test_corrupt_tries_every_kind_and_reports_the_rejected():
    words = Demonstration("a", "q", "no digits", "Paris")
    corruption, rejected = corrupt(words, KINDS, random.Random(0))
    assert corruption is None and sorted(rejected) == ["NudgedAnswer", "NumberCorruption", "OperatorFlip"]
    only_answer = Demonstration("b", "q", "no digits", "48")
    outcomes = [corrupt(only_answer, KINDS, random.Random(seed)) for seed in range(40)]
    assert {outcome.corruption.kind for outcome in outcomes} == {"NudgedAnswer"}
    assert {len(outcome.rejected) for outcome in outcomes} == {0, 1, 2}, "the order is shuffled"
    assert corrupt(words, [], random.Random(0)) == (None, ())


def test_the_same_seed_gives_the_same_corruptions(demonstrations):
    runs = [[corrupt(demo, KINDS, random.Random(7)) for demo in demonstrations[:50]] for _ in range(2)]
    other = [corrupt(demo, KINDS, random.Random(8)) for demo in demonstrations[:50]]
    assert runs[0] == runs[1] != other


@pytest.mark.parametrize(("perturbation", "most_rejected"), zip(KINDS, (0.08, 0.001, 0.0), strict=True))
def test_on_real_solutions(demonstrations, perturbation, most_rejected):
    rng, rejected = random.Random(0), 0
    for demo in demonstrations:
        corruption = perturbation(demo.reasoning, demo.answer, rng)
        if corruption is None:
            rejected += 1
            continue
        old, new = assert_only_the_span_changed(render_completion(demo.reasoning, demo.answer), corruption)
        if isinstance(perturbation, OperatorFlip):
            assert old in OPERATORS and new in OPERATORS and OPERATORS[old] != OPERATORS[new]
            flipped = equation_at(demo.reasoning, corruption.span[0] - len("<think>\n"))
            assert not flipped.holds or held(demo.reasoning) - held(corruption.reasoning)
        else:
            assert old.isdigit() and new.isdigit() and 1 <= abs(int(old) - int(new)) <= 3
        assert answers_agree(demo.answer, corruption.answer) != isinstance(perturbation, NudgedAnswer)
    print(f"{type(perturbation).__name__}: {rejected} of {len(demonstrations)} rejected")
    assert rejected <= most_rejected * len(demonstrations)


def test_the_rate_of_rejections_notices_prose_without_equations(demonstrations):
    words = [demo.reasoning.replace("=", "is") for demo in demonstrations[:100]]
    assert sum(OperatorFlip()(text, "5", random.Random(0)) is None for text in words) > 8, "more than is allowed above"


def test_the_built_in_task_can_always_be_corrupted():
    for demo in Arithmetic(train_size=50, selection_size=1, test_size=1).splits().train:
        for perturbation in KINDS:
            corruption = perturbation(demo.reasoning, demo.answer, random.Random(0))
            assert_only_the_span_changed(render_completion(demo.reasoning, demo.answer), corruption)


def equation_at(reasoning, position):
    """The equation one of whose operators is there."""
    return next(e for e in find_equations(reasoning) if any(t.start == position for t in e.operators))


def held(reasoning):
    """How often each true equation is stated."""
    texts = (("".join(t.text for t in e.left), e.result.text) for e in find_equations(reasoning) if e.holds)
    return Counter(texts)


def test_most_of_real_arithmetic_is_read(demonstrations):
    equations = [equation for demo in demonstrations for equation in find_equations(demo.reasoning)]
    assert len(equations) > 2.5 * len(demonstrations)
    assert sum(equation.holds for equation in equations) > 0.98 * len(equations)
