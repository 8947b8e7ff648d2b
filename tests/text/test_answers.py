"""Extraction refuses lists of answers; comparison is exact, and lenient in notation only."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.text.answers import answers_agree, extract_answer, parse_quantity

pieces = st.lists(st.sampled_from(["<answer>", "</answer>", "<think>", "5", "6", " "]), max_size=30).map("".join)
notation = st.text("0123456789.,-+/%$ ()\\{}eabxk", max_size=40) | st.text()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>1</think><answer>\n5\n</answer>", "5"),
        ("<answer>5</answer>", "5"),
        ("5", None),
        ("", None),
        ("<answer>5", None),
        ("<answer> </answer>", None),
        ("<answer>5</answer><answer>5.0</answer>", "5.0"),
        ("<answer>5</answer><answer>6</answer>", None),
        ("<think><answer>5</answer></think><answer>6</answer>", None),
        ("<answer>5</answer><answer></answer>", None),
        ("<answer>5</answer><answer>6", "5"),
        ("<answer><answer>5</answer>", "5"),
        ("<answer>5<think></answer>", None),
    ],
)
def test_extraction(text, answer):
    assert extract_answer(text) == answer


AGREE = [
    ("5", "5"),
    ("1,000", "1000"),
    ("12,345,678.50", "12345678.5"),
    ("$5", "5"),
    ("$5", "5 dollars"),
    ("-$5", "$-5"),
    ("$ 5.00", "5"),
    ("\\$5", "5"),
    ("5.0", "5"),
    (".5", "0.5"),
    ("5.", "5"),
    ("+5", "5"),
    ("007", "7"),
    ("5 apples", "5"),
    ("5 apples", "5 Apple"),
    ("5 inches", "5 inch"),
    ("5 miles per hour", "5"),
    ("50%", "50"),
    ("50 %", "50 percent"),
    ("50\\%", "50%"),
    ("1/2", "0.5"),
    ("2 / 4", "1/2"),
    ("\\frac{1}{2}", "1/2"),
    ("-\\dfrac{1}{2}", "-0.5"),
    ("\\boxed{5}", "5"),
    ("$\\boxed{-5.50}$", "-5.5"),
    ("\\(5\\)", "5"),
    ("$5$", "5"),
    ("**5**", "5"),
    ("5\\text{ apples}", "5"),
    ("1{,}000", "1000"),
    ("\u22125", "-5"),
    ("Paris", " paris. "),
    ("two  words", "two words"),
    ("B", "(B)"),
    ("B", "B."),
    ("B", "B. the second"),
    ("(B) the second", "(B)"),
]
DISAGREE = [
    ("5", "6"),
    ("5", "-5"),
    ("1,000", "1"),
    ("1,00", "100"),
    ("1,2", "12"),
    ("5", "5 or 6"),
    ("5", "5 and 6"),
    ("5", "5 million"),
    ("5", "5k"),
    ("5", "5 k"),
    ("5", "5x"),
    ("5", "5 x"),
    ("5", "5 dozen"),
    ("2", "2 pi"),
    ("2", "2 thirds"),
    ("3", "3 not"),
    ("$5", "5 apples"),
    ("$5", "5%"),
    ("$5", "€5"),
    ("10 am", "10 pm"),
    ("5 apples", "5 pears"),
    ("50%", "0.5"),
    ("1/3", "0.33"),
    ("1/0", "1/1"),
    ("1e3", "1000"),
    ("2**3", "8"),
    ("2 + 3", "5"),
    ("x = 5", "5"),
    ("5 feet 3 inches", "5"),
    ("about 5", "5"),
    ("5 5", "55"),
    ("1 1/2", "11/2"),
    ("--5", "5"),
    (".", "0"),
    ("%", "0"),
    ("$", "0"),
    ("", ""),
    (" ", " "),
    ("A", "B"),
    ("B. the second", "B. another"),
    ("Banana", "B"),
    ("I think so", "I"),
    ("\u0665", "6"),
    ("5\u00b2", "52"),
]


@pytest.mark.parametrize(("first", "second"), AGREE)
def test_the_same_answer_in_another_notation_agrees(first, second):
    assert answers_agree(first, second) and answers_agree(second, first)


@pytest.mark.parametrize(("first", "second"), DISAGREE)
def test_different_answers_disagree(first, second):
    assert not answers_agree(first, second) and not answers_agree(second, first)


def test_no_answer_agrees_with_nothing():
    assert not answers_agree(None, None) and not answers_agree(None, "5") and not answers_agree("5", None)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_agree_exactly_when_they_are_equal(first, second):
    assert answers_agree(str(first), str(second)) == (first == second)


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_thousands_and_trailing_zeros_do_not_matter_but_one_unit_does(value, zeros):
    written = f"{value:,}" + ("." + "0" * zeros if zeros else "")
    assert answers_agree(written, str(value))
    assert not answers_agree(written, str(value + 1))


@given(notation, notation)
def test_comparison_never_raises_and_is_symmetric(first, second):
    assert answers_agree(first, second) == answers_agree(second, first)
    assert answers_agree(first, first) or "\\" in first or not any(map(str.isalnum, first))


@given(pieces)
def test_extraction_never_raises_and_one_more_answer_spoils_it(text):
    assert extract_answer(text) is None or extract_answer(text + "<answer>7</answer>") is None


HOSTILE = ["<answer>", "<answer>1</answer>", "1,000", "9", "\\boxed{", "$", "(", "a ", "**", "\\text{a}"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_answers_are_judged_quickly(unit):
    text = unit * (20_000 // len(unit))
    started = time.process_time()  # a busy machine takes none of it
    extract_answer(text)
    answers_agree(text, text + "1")
    assert time.process_time() - started < 1


def test_quantities():
    assert parse_quantity("-1,234.50 dollars").value == Fraction(-2469, 2)
    assert parse_quantity("-1,234.50 dollars").unit == "$"
    assert parse_quantity("9" * 65) is None, "long digits are text, not a number"
