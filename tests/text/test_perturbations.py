"""Every perturbation changes something, says exactly where, and leaves the rest alone."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perturbing import (
    KINDS,
    LOCAL,
    SHARED,
    assert_only_the_span_changed,
    corruptions,
    demo,
    dials,
    rendered,
    tries,
    with_others,
)

from rairl_lightning.data.demonstrations import GSM8K
from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.equations import find_equations
from rairl_lightning.text.expressions import OPERATORS
from rairl_lightning.text.perturbations import (
    NudgedAnswer,
    NumberCorruption,
    OperatorFlip,
    Perturbation,
    Rewrite,
    SwappedOperands,
    SwappedQuantities,
    changed_span,
    corrupt,
)
from rairl_lightning.text.perturbations.modulus import find_modulus, is_true

SIMPLE = [OperatorFlip(), NumberCorruption(), NudgedAnswer()]
PIECES = ["5", "3", "0", " ", "+", "-", "*", "/", "=", "x", "\n", ".", "8", "eggs", "(", ")"]
WORDS = ["Ann", "12.50", "1,200", "%", "$", "is not", "higher", "a", "hyperkalemia"]
TAGS = ["A. ", "B. ", "Answer: (A)", "</think>", "<answer>"]
prose = st.lists(st.sampled_from(PIECES)).map("".join)
wild = st.lists(st.sampled_from([*PIECES, *WORDS, *TAGS]), max_size=40).map(" ".join) | st.text()


@pytest.fixture(scope="module")
def demonstrations():
    if not SHARED.is_dir():
        pytest.skip(f"real GSM8K is not at {SHARED}")
    return GSM8K(str(SHARED / "gsm8k")).splits().test


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


def test_around_a_circle_an_equation_that_is_still_right_is_no_error():
    for corruption in tries(OperatorFlip(), "8 + 5 = 3\n3 - 5 = 8"):  # modulo 10, where + 5 and - 5 are the same
        assert not {"8 - 5 = 3", "3 + 5 = 8"} & set(corruption.reasoning.splitlines())
    assert tries(SwappedOperands(), "8 + 5 = 3\n2 - 7 = 5") == {None}, "7 - 2 = 5, too"
    assert {c.reasoning for c in tries(SwappedOperands(), "8 + 5 = 3\n2 - 6 = 6")} == {"8 + 5 = 3\n6 - 2 = 6"}


@pytest.mark.parametrize(
    ("trace", "modulus"),
    [
        ("8 + 5 = 3", 10),
        ("9 * 3 = 7", 10),  # the difference is 20, but one digit cannot tell 20 places
        ("9 + 5 = 2, 4 + 7 = 11", 12),
        ("8 + 1 = 9", None),  # nothing wraps around
        ("3 + 5 = 8, 2 * 8 = 15", None),  # an error of 1
        ("12 * 3 = 26", None),  # an error of 10, but 26 is no place modulo 10
        ("8 + 5 = 3.0", None),
        ("2 / 4 = 3", None),
        ("", None),
    ],
)
def test_the_modulus_is_read_off_the_equations(trace, modulus):
    equations = find_equations(trace)
    assert find_modulus(equations) == modulus
    assert modulus is None or all(is_true(equation, modulus) for equation in equations)


def test_swapped_operands_by_hand():
    made = tries(SwappedOperands(), "- 1-2 walks\nshe has 12 eggs - 5 eggs = 7 eggs, 84/2 = 42, 3 + 4 = 7, 8 - 8 = 0")
    lines = {c.reasoning.splitlines()[1] for c in made}
    assert lines == {
        "she has 5 eggs - 12 eggs = 7 eggs, 84/2 = 42, 3 + 4 = 7, 8 - 8 = 0",
        "she has 12 eggs - 5 eggs = 7 eggs, 2/84 = 42, 3 + 4 = 7, 8 - 8 = 0",
    }
    for reasoning in ("3 + 4 = 7", "2 * 3 = 6", "9 - 9 = 0", "9 - 4 = 6", "pages 9-4", "9 - 4% = 8.64"):
        assert tries(SwappedOperands(), reasoning) == {None}, reasoning


def test_swapped_quantities_by_hand():
    made = {c.reasoning for c in tries(SwappedQuantities(), "5 hens lay 20 eggs\n20 - 5 = 15")}
    assert made == {
        "20 hens lay 5 eggs\n20 - 5 = 15",
        "5 hens lay 20 eggs\n5 - 20 = 15",
        "5 hens lay 20 eggs\n15 - 5 = 20",
    }, "and not 20 - 15 = 5, which is right"
    for reasoning in ("", "5 hens", "5 and 7", "from 5 to 7 eggs", "5 hens and 7 hens", "5 hens\n7 eggs"):
        assert tries(SwappedQuantities(), reasoning) == {None}, reasoning
    assert {c.reasoning for c in tries(SwappedQuantities(), "5 + 7 = 12")} == {"12 + 7 = 5", "5 + 12 = 7"}


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

    assert SameValue()(demo("r", "5"), random.Random(0)) is None


def test_a_perturbation_that_changes_nothing_is_rejected():
    @dataclass(frozen=True)
    class Nothing(Perturbation):
        def rewrite(self, demonstration, rng, others):
            return Rewrite(demonstration.reasoning + "\n", demonstration.answer)

    assert Nothing()(demo("r", "5"), random.Random(0)) is None


@given(st.text(), st.text())
def test_changed_span_is_the_smallest(before, after):
    start, end = changed_span(f"<{before}>", f"<{after}>")
    if before != after:
        old, new = f"<{before}>", f"<{after}>"
        assert old[:start] == new[:start] and old.endswith(new[end:])


@given(wild, wild, wild, st.integers(0, 99))
def test_no_text_makes_a_perturbation_raise_or_point_elsewhere(prompt, reasoning, answer, seed):
    one, others = demo(reasoning, answer, prompt), [demo("12 - 5 = 7 is high", "7", "Is it Ann or Ben?")]
    for perturbation in KINDS:
        corruption = perturbation(one, random.Random(seed), others)
        assert corruption == perturbation(one, random.Random(seed), others)
        if corruption is None:
            continue
        after = rendered(corruption)
        start, end = corruption.span
        assert after != rendered(one) and 0 <= start < end <= len(after)
        assert corruption.kind == type(perturbation).__name__
        assert not perturbation.changes_answer or not answers_agree(answer, corruption.answer)
        assert perturbation.changes_answer or corruption.answer == answer


@given(prose, prose, st.integers(0, 99))
def test_nothing_outside_the_span_of_a_local_error_is_changed(reasoning, answer, seed):
    one, others = demo(reasoning, answer), [demo("12 - 5 = 7 is high", "7", "Is it Ann or Ben?")]
    for perturbation in LOCAL:
        corruption = perturbation(one, random.Random(seed), others)
        if corruption is not None:
            assert_only_the_span_changed(rendered(one), corruption)


def test_corrupt_tries_every_kind_and_reports_the_rejected():
    words = demo("no digits", "Paris")
    corruption, rejected = corrupt(words, SIMPLE, random.Random(0))
    assert corruption is None and sorted(rejected) == ["NudgedAnswer", "NumberCorruption", "OperatorFlip"]
    only_answer = demo("no digits", "48")
    outcomes = [corrupt(only_answer, SIMPLE, random.Random(seed)) for seed in range(40)]
    assert {outcome.corruption.kind for outcome in outcomes} == {"NudgedAnswer"}
    assert {len(outcome.rejected) for outcome in outcomes} == {0, 1, 2}, "the order is shuffled"
    assert corrupt(words, [], random.Random(0)) == (None, ())


def test_the_same_seed_gives_the_same_corruptions():
    demonstrations = with_others(dials()[:50])
    runs = [[corrupt(one, KINDS, random.Random(7), others) for one, others in demonstrations] for _ in range(2)]
    other = [corrupt(one, KINDS, random.Random(8), others) for one, others in demonstrations]
    assert runs[0] == runs[1] != other


@pytest.mark.parametrize(("perturbation", "most_rejected"), zip(SIMPLE, (0.08, 0.001, 0.0), strict=True))
def test_on_real_solutions(demonstrations, perturbation, most_rejected):
    rejected = 0
    for one, corruption in corruptions(perturbation, demonstrations):
        if corruption is None:
            rejected += 1
            continue
        old, new = assert_only_the_span_changed(rendered(one), corruption)
        if isinstance(perturbation, OperatorFlip):
            assert old in OPERATORS and new in OPERATORS and OPERATORS[old] != OPERATORS[new]
            flipped = equation_at(one.reasoning, corruption.span[0] - len("<think>\n"))
            assert not flipped.holds or held(one.reasoning) - held(corruption.reasoning)
        else:
            assert old.isdigit() and new.isdigit() and 1 <= abs(int(old) - int(new)) <= 3
        assert answers_agree(one.answer, corruption.answer) != isinstance(perturbation, NudgedAnswer)
    print(f"{type(perturbation).__name__}: {rejected} of {len(demonstrations)} rejected")
    assert rejected <= most_rejected * len(demonstrations)


def test_the_rate_of_rejections_notices_prose_without_equations(demonstrations):
    words = [demo(one.reasoning.replace("=", "is"), "5") for one in demonstrations[:100]]
    assert sum(OperatorFlip()(one, random.Random(0)) is None for one in words) > 8, "more than is allowed above"


def test_the_built_in_task_can_always_be_corrupted():
    for perturbation in SIMPLE:
        for one, corruption in corruptions(perturbation, dials()[:50]):
            assert_only_the_span_changed(rendered(one), corruption)


def equation_at(reasoning, position):
    """The equation one of whose operators is there."""
    return next(e for e in find_equations(reasoning) if any(t.start == position for t in e.operators))


def held(reasoning):
    """How often each true equation is stated."""
    texts = (("".join(t.text for t in e.left), e.result.text) for e in find_equations(reasoning) if e.holds)
    return Counter(texts)


def test_most_of_real_arithmetic_is_read(demonstrations):
    equations = [equation for one in demonstrations for equation in find_equations(one.reasoning)]
    assert len(equations) > 2.5 * len(demonstrations)
    assert sum(equation.holds for equation in equations) > 0.98 * len(equations)
