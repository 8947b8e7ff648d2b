"""The equations and quantities of prose."""

from fractions import Fraction

import pytest

from rairl_lightning.text.equations import find_equations, find_quantities


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("She sells 16 - 3 - 4 = 9 eggs a day.", [(9, True)]),
        ("9 * 2 = $18", [(18, True)]),
        ("80,000*1.5=120,000", [(120_000, True)]),
        ("3 hours x 2 chapters = 6 hours total", [(6, True)]),
        ("so 5 + 3 = 8, and 8 / 2 = 4", [(8, True), (4, True)]),
        ("5 + 3 = 8 = 2 * 4", [(8, True)]),
        ("10 / 3 = 3.33", [(Fraction(10, 3), True)]),
        ("10 / 3 = 3.34", [(Fraction(10, 3), False)]),
        ("100% - 40% = 60%", [(Fraction(3, 5), True)]),
        ("- 5 + 3 = 8", [(8, True)]),
        ("-5 + 3 = -2", [(-2, True)]),
        ("\\(90 - 82 = 8\\)", [(8, True)]),
        ("(5 + 3) * 2 = 16", [(16, True)]),
        ("Ann raises 3: 8 + 3 = 1", [(11, False)]),
        ("R + 2R - 7 = 98", []),
        ("2x + 3 = 7", []),
        ("3 * x - 5 = 30", []),
        ("x = 5", []),
        ("a 10-minute break and 3-5 friends", []),
        ("- bullet = 5", []),
        ("3/6 = 1/2", []),
        ("5(6 + 3) = 45", []),
        ("2 ** 3 = 8", []),
        ("5 + 3 == 8", []),
        ("5 + 3\n= 8", []),
    ],
)
def test_equations_in_prose(text, found):
    assert [(equation.value, equation.holds) for equation in find_equations(text)] == found


def test_operators_are_binary_and_where_they_are_written():
    text = "-5 + 3 * -2 = -11"
    (equation,) = find_equations(text)
    assert [(token.text, token.start) for token in equation.operators] == [("+", 3), ("*", 7)]
    assert equation.holds and not equation.replaced(equation.operators[0], "-").holds


def test_quantities_leave_labels_and_words_alone():
    text = "1. B12 and 5th: Step 2 takes 3x4 = 12 of 1,500.5 or 35kg\n- 2) half 7"
    assert [token.text for token in find_quantities(text)] == ["3", "4", "12", "1,500.5", "7"]
