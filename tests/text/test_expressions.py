"""Arithmetic without eval."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.text.equations import find_equations, find_quantities
from rairl_lightning.text.expressions import MAX_DEPTH, MAX_LENGTH, evaluate, tokenise


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 - 3 - 4", -5),
        ("12 / 3 / 2", 2),
        ("1 / 3", Fraction(1, 3)),
        ("-2 * -3", 6),
        ("--2", 2),
        ("-(2 + 3)", -5),
        (".5 + 0.25", Fraction(3, 4)),
        ("1,000 + 1", 1001),
        ("3 x 4", 12),
        ("3x4", 12),
        ("3 × 4 ÷ 2", 6),
        ("3 \\times 4 \\div 2", 6),
        ("5 \u2212 3", 2),
        ("20% * 50", 10),
        ("$5 * 3", 15),
        ("", None),
        ("5 +", None),
        ("* 5", None),
        ("(5", None),
        ("5)", None),
        ("5 5", None),
        ("5 / 0", None),
        ("5 / (2 - 2)", None),
        ("2 ** 9", None),
        ("9 // 2", None),
        ("9^9", None),
        ("five", None),
        ("1e9", None),
        ("__import__('os')", None),
        ("()", None),
        ("+5", None),
    ],
)
def test_values(text, value):
    assert evaluate(text) == value


def test_length_and_depth_are_bounded():
    assert evaluate("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == 1
    assert evaluate("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)) is None
    assert evaluate("-" * 200 + "1") is None
    assert evaluate("1" * MAX_LENGTH) == int("1" * MAX_LENGTH)
    assert evaluate("1" * (MAX_LENGTH + 1)) is None


@given(st.recursive(st.integers(0, 999).map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
    lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"), max_leaves=10))  # fmt: skip
def test_agrees_with_python(text):
    assert evaluate(text) == eval(text)  # noqa: S307 (our own digits and signs)


@given(st.text("0123456789+-*/(). x%$,=\n\\", max_size=300) | st.text())
def test_never_raises(text):
    assert evaluate(text) is None or isinstance(evaluate(text), Fraction)
    for equation in find_equations(text):
        assert equation.operators and isinstance(equation.holds, bool)
    for token in [*find_quantities(text), *tokenise(text)]:
        assert text[token.start : token.end] == token.text


@pytest.mark.parametrize("unit", ["1+", "(", "-", "= 1 ", "1 a ", "1,000,", "9", "1+1=2", "\\", "x ", ".1"])
def test_hostile_text_is_read_quickly(unit):
    text = unit * (50_000 // len(unit))
    started = time.process_time()  # a busy machine takes none of it
    evaluate(text)
    [equation.holds for equation in find_equations(text)]
    find_quantities(text)
    assert time.process_time() - started < 5
