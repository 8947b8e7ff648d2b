"""Other numbers in the same notation, so that style does not give a perturbation away."""

import random
from fractions import Fraction

_LARGEST_DIGIT_CHANGE = 3


def near_number(text: str, rng: random.Random) -> str:
    """Another number of the same length: one digit moved by 1 to 3, the first of several never to 0."""
    place = rng.choice([i for i, character in enumerate(text) if character.isdigit()])
    return rng.choice(_moved(text, place))


def near_numbers(text: str) -> list[str]:
    """All that :func:`near_number` may give.

    >>> near_numbers("20")
    ['10', '30', '40', '50', '21', '22', '23']
    """
    return [near for place, character in enumerate(text) if character.isdigit() for near in _moved(text, place)]


def _moved(text: str, place: int) -> list[str]:
    old = int(text[place])
    lowest = 1 if place == 0 and len(text) > 1 else 0
    near = range(max(lowest, old - _LARGEST_DIGIT_CHANGE), min(9, old + _LARGEST_DIGIT_CHANGE) + 1)
    return [text[:place] + str(digit) + text[place + 1 :] for digit in near if digit != old]


def number(text: str) -> Fraction:
    """Value of a written number."""
    return Fraction(text.replace(",", ""))


def decimals(text: str) -> int:
    """Digits after the point."""
    return len(text.partition(".")[2])


def rewritten(text: str, value: Fraction, *, commas: bool) -> str | None:
    """``value`` with the decimals of ``text``; None if it has more of them or is negative.

    Args:
        text: the number whose notation is kept.
        value: the new number.
        commas: whether thousands are set off where ``text`` is too short to tell.

    >>> rewritten("1,250.50", Fraction(4001, 4), commas=False), rewritten("12", Fraction(25, 2), commas=False)
    ('1,000.25', None)
    """
    places = decimals(text)
    scaled = value * 10**places
    if value < 0 or scaled.denominator != 1:
        return None
    whole, rest = divmod(scaled.numerator, 10**places)
    has_commas = "," in text or (commas and whole_digits(text) < 4)
    written = f"{whole:,}" if has_commas else str(whole)
    written = "" if text.startswith(".") and whole == 0 else written
    return f"{written}.{rest:0{places}d}" if places else written


def whole_digits(text: str) -> int:
    """Digits before the point."""
    return sum(character.isdigit() for character in text.partition(".")[0])
