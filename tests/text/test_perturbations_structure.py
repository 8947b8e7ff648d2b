"""Steps that are missing, in the wrong order, or not from here."""

import random
from collections import Counter

import pytest
from perturbing import MOVED, corruptions, demo, dials, gsm8k, rendered, spanned, tries

from rairl_lightning.text.equations import find_equations, find_quantities
from rairl_lightning.text.perturbations import BorrowedStep, DroppedStep, ReorderedSteps
from rairl_lightning.text.perturbations.numbers import number

PROMPT = "He buys 3 boxes of 16 and 5 bags of 7. How many are left after he eats 9?"
TRACE = "3*16 = 48 in boxes\n5*7 = 35 in bags\n48+35 = 83 in all\n83-9 = 74 left"
DIAL = "Ann adds 6: 8 + 6 = 4\nAnn takes 1: 4 - 1 = 3\nAnn adds 5: 3 + 5 = 8"


def texts(made):
    return {c and (c.reasoning, spanned(c)) for c in made}


def test_a_dropped_step_by_hand():
    """The number of the dropped line is met where it is used; never the last line while an earlier one can go."""
    lines = TRACE.splitlines()
    made = texts(tries(DroppedStep(), TRACE, "74", PROMPT))
    assert (
        made
        == {
            ("\n".join(lines[1:]), "48"),  # before it, "5*7 = 35 in bags" stands where it always stood
            ("\n".join([lines[0], *lines[2:]]), "48+35"),
            ("\n".join([*lines[:2], lines[3]]), "83"),
        }
    )


def test_a_dropped_step_of_a_running_total_by_hand():
    lines = DIAL.splitlines()
    assert texts(tries(DroppedStep(), DIAL, "8", "8 6 1 5")) == {
        ("\n".join(lines[1:]), "takes 1: 4"),
        ("\n".join([lines[0], lines[2]]), "adds 5: 3"),
    }


def test_the_last_step_goes_if_no_other_can_and_the_answer_then_comes_from_nowhere():
    assert texts(tries(DroppedStep(), "Let us see.\n3*16 = 48", "48", "3 and 16")) == {
        ("Let us see.", "</think>\n<answer>\n48")
    }


@pytest.mark.parametrize(
    ("trace", "answer", "prompt"),
    [
        ("", "4", ""),
        ("3*16 = 48", "48", "3 and 16"),  # the only step
        ("3*16 = 48\n2+2 = 4", "5", "3, 16, 2"),  # nothing is used
        ("3*16 = 48\n48+1 = 49", "5", "3, 16, 48"),  # the prompt gives it
        ("1. 3*16 = 48\n2. 48+1 = 49", "49", "3, 16, 1"),  # the numbering would tell
        ("6 + 0 = 6\n6 + 2 = 8", "9", "6 0 2"),  # without the first line the total is the same
    ],
)
@pytest.mark.parametrize("perturbation", MOVED)
def test_a_step_that_nobody_misses_stays(perturbation, trace, answer, prompt):
    assert tries(perturbation, trace, answer, prompt) == {None}


def test_reordered_steps_by_hand():
    one, two, three, four = TRACE.splitlines()
    assert texts(tries(ReorderedSteps(), TRACE, "74", PROMPT)) == {
        ("\n".join([one, three, two, four]), "48+35"),
        ("\n".join([one, two, four, three]), "83"),
    }
    first, second, third = DIAL.splitlines()
    assert texts(tries(ReorderedSteps(), DIAL, "8", "8 6 1 5")) == {
        ("\n".join([second, first, third]), "takes 1: 4"),
        ("\n".join([first, third, second]), "adds 5: 3"),
    }


def test_lines_of_real_solutions_stay_as_they_are():
    for one, made in corruptions(ReorderedSteps(), dials()):
        assert sorted(one.reasoning.splitlines()) == sorted(made.reasoning.splitlines())
        assert made.answer == one.answer
    for one, made in corruptions(DroppedStep(), dials()):
        old, new = (Counter(solution.reasoning.splitlines()) for solution in (one, made))
        assert new <= old and (old - new).total() == 1 and made.answer == one.answer


@pytest.mark.parametrize("perturbation", MOVED)
def test_the_span_ends_with_a_number_that_only_the_missing_step_gives(perturbation):
    """Of human solutions: the prompt does not have it, and in the original it is the result of an equation."""
    seen = 0
    for one, made in corruptions(perturbation, gsm8k()[:200]):
        if made is None:
            continue
        shown = find_quantities(spanned(made))[-1].text
        assert spanned(made).endswith(shown)
        assert number(shown) not in {number(token.text) for token in find_quantities(one.prompt)}
        assert number(shown) in {number(equation.result.text) for equation in find_equations(one.reasoning)}
        before = rendered(made)[: made.span[1] - len(shown)]
        results = {number(equation.result.text) for equation in find_equations(before)}
        seen += number(shown) not in results
    assert seen > 150


def test_a_borrowed_step_by_hand():
    others = [demo("Zoe reads 4 x 9 = 36 pages.\nThe answer is short", "36", "Zoe reads", "b")]
    made = texts(tries(BorrowedStep(), "He buys 3 x 5 = 15 eggs.\nGood for him.", "15", "3 boxes of 5", others))
    assert made == {("Zoe reads 4 x 9 = 36 pages.\nGood for him.", "Zoe reads 4 x 9 = 36 page")}, "with an equation"


@pytest.mark.parametrize(
    ("trace", "other"),
    [
        ("He buys 3 x 5 = 15 eggs.", None),
        ("He buys 3 x 5 = 15 eggs.", "No numbers here"),
        ("He buys 3 x 5 = 15 eggs.", "He buys 3 x 5 = 15 eggs."),
        ("He buys 3 x 5 = 15 eggs.", "he buys 5 x 3 = 15 eggs"),  # true here, too
        ("The answer is 5", "Answer: B"),
        ("1. He buys", "2. Zoe reads"),
        ("Ann adds 6: 8 + 6 = 4\nAnn adds 1: 4 + 1 = 5", "Ann adds 1: 4 + 1 = 5"),  # only in the place of the first
    ],
)
def test_what_could_stand_here_is_not_borrowed(trace, other):
    others = [demo(other, "5", "q", "b")] if other else []
    made = {c.reasoning for c in tries(BorrowedStep(), trace, "15", "3 boxes of 5", others) if c is not None}
    assert made == ({"Ann adds 1: 4 + 1 = 5\nAnn adds 1: 4 + 1 = 5"} if trace.startswith("Ann") else set())


def test_a_phrase_that_the_others_share_is_not_borrowed():
    """``Let's think step by step.`` is wrong nowhere; the negative control has it from one trace only."""
    phrase, others = "Let us think.", [demo(f"Let us think.\nNo. {name}", "5", "q", name) for name in "bc"]

    def lent(lenders):
        return {phrase in made.reasoning for made in tries(BorrowedStep(), "He buys.", others=lenders) if made}

    assert lent(others) == {False} and True in lent(others[:1])


def test_the_borrowed_step_is_the_most_alike_of_a_dozen():
    lent = "Zoe reads quickly.\nZoe reads a very long book about ships and harbours."
    others = [demo(lent, "36", "Zoe", f"{place}") for place in range(9)]
    lengths = [
        len(BorrowedStep()(demo("He buys a lot of it"), random.Random(seed), others).reasoning) for seed in range(40)
    ]
    assert sum(length == len("Zoe reads quickly.") for length in lengths) >= 38
