"""Whether a trace counts in a circle (a dial, a clock), read off its own equations."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from rairl_lightning.text.equations import Equation, find_equations
from rairl_lightning.text.perturbations.base import Solution


@lru_cache(maxsize=8192)
def equations_of(reasoning: str) -> tuple[Equation, ...]:
    """The equations of a trace, remembered: many perturbations ask for those of the same demonstrations."""
    return tuple(find_equations(reasoning))


def modulus_of(demonstration: Solution, others: Sequence[Solution] = ()) -> int | None:
    """The modulus of a trace's arithmetic; of the others' where its own equations happen not to wrap around."""
    own = equations_of(demonstration.reasoning)
    if not own or not all(_fits_a_circle(equation) for equation in own):
        return None
    return find_modulus(own) or find_modulus([*own, *_equations(others)])


def _equations(others: Sequence[Solution]) -> list[Equation]:
    return [equation for other in others for equation in equations_of(other.reasoning)]


def _fits_a_circle(equation: Equation) -> bool:
    """Whole and not negative, as a place on a dial is."""
    return equation.sign > 0 and "." not in equation.result.text


def find_modulus(equations: Sequence[Equation]) -> int | None:
    """The m that makes every equation true modulo m where some are not true as they stand; None if there is none.

    The largest divisor of all differences ``left - result`` that no result reaches and that is at most 10, 100, … for
    results of one, two, … digits: ``8 + 5 = 3`` counts modulo 10, whatever else ``8 + 5 - 3 = 10`` is divisible by.

    >>> find_modulus(find_equations("8 + 5 = 3, 3 - 4 = 9")), find_modulus(find_equations("3 + 5 = 8, 2 * 8 = 15"))
    (10, None)
    """
    if not all(_fits_a_circle(equation) for equation in equations):
        return None
    known = [(equation.value, written(equation)) for equation in equations if equation.value is not None]
    differences = [value - result for value, result in known if value != result]
    if not differences or any(difference.denominator != 1 for difference in differences):
        return None
    common = math.gcd(*(difference.numerator for difference in differences))
    highest = max(int(result) for _, result in known)
    bound = min(common, 10 ** len(str(highest)))
    return next((m for m in range(bound, highest, -1) if common % m == 0 and m > 1), None)


def is_true(equation: Equation, modulus: int | None) -> bool:
    """Whether an equation is true as it stands or, with a modulus, around the circle."""
    if equation.holds or modulus is None or equation.value is None:
        return equation.holds
    return (equation.value - written(equation)) % modulus == 0


def written(equation: Equation) -> Fraction:
    """The number on the right of the equals sign."""
    return equation.sign * Fraction(equation.result.text.replace(",", ""))
