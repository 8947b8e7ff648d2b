"""Reading the final answer and comparing two of them: pure, exact, fast, and without evaluating anything."""

import re
from dataclasses import dataclass
from fractions import Fraction

from rairl_lightning.text.chat import ANSWER_CLOSE, ANSWER_OPEN, blocks

_MAX_NUMBER = 64
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<currency>[$€£]?)\s*(?P<inner>-?)"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?P<decimals>\.[0-9]+)?(?:\s*/\s*(?P<below>[0-9]+))?"
    r"(?P<percent>\s*%)?(?P<unit>(?:\s+[^\W\d_]+){0,3})"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}")
_WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL) for pattern in (r"\\boxed\{(.*)\}", r"\\\((.*)\\\)", r"\$(.+)\$", r"\*\*(.*)\*\*")
)
_TEXT_MACRO = re.compile(r"\\(?:text|mathrm)\{([^{}]*)\}")
_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")
_OPTION = re.compile(r"\(?([A-Z])[).:]\s.*", re.DOTALL)
_LATEX = {"\\$": "$", "\\%": "%", "{,}": ",", "\\,": " ", "\\!": "", "\u2212": "-", "\u00a0": " "}

# After a number these words change its value, so they are not units.
_VALUE_WORDS = """
    and or not to plus minus times over by squared cubed pi sqrt e i x y z n half halves third thirds quarter
    quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths
    hundred hundreds hundredth hundredths thousand thousands thousandth thousandths million millions billion
    billions trillion trillions dozen dozens pair pairs k
"""
_NOT_UNITS = frozenset(_VALUE_WORDS.split())
_SAME_UNIT = {"dollar": "$", "usd": "$", "percent": "%", "euro": "€", "eur": "€", "gbp": "£"}


def extract_answer(text: str) -> str | None:
    """Text of the last closed answer block.

    Repeating an answer is allowed. Two closed blocks that disagree, none, or an empty one give None, so that a
    completion cannot be right by listing several answers.

    >>> extract_answer("<think>2 + 2 = 4</think><answer> 4 </answer>")
    '4'
    >>> extract_answer("<answer>4</answer><answer>5</answer>") is None
    True
    """
    answers = blocks(text, ANSWER_OPEN, ANSWER_CLOSE)
    if not answers or not all(answers):
        return None
    last = cleaned(answers[-1])  # each block is cleaned once: with all pairs the time would be the square of the length
    others = {cleaned(other) for other in set(answers) - {answers[-1]}}
    return answers[-1] if all(_agree(other, last) for other in others) else None


def answers_agree(first: str | None, second: str | None) -> bool:
    r"""Whether two final answers are the same; None and the empty text agree with nothing.

    Numbers are compared exactly as rationals (``1,000`` = ``1000.0``, ``1/2`` = ``0.5``); a currency sign, a percent
    sign or up to three trailing words are a unit, which one of the two may leave out but not contradict. A bare option
    letter agrees with ``(B)`` and ``B. its text``. Anything else is compared as text without case.

    >>> answers_agree("$1,000", "1000.0 dollars"), answers_agree("50%", "0.5"), answers_agree(r"\boxed{-3}", "-3")
    (True, False, True)
    """
    if first is None or second is None:
        return False
    return _agree(cleaned(first), cleaned(second))


def _agree(first: str, second: str) -> bool:
    """:func:`answers_agree` for texts that are :func:`cleaned`."""
    if not first or not second:
        return False
    if first.casefold() == second.casefold() or _same_option(first, second):
        return True
    a, b = parse_quantity(first), parse_quantity(second)
    return a is not None and b is not None and a.value == b.value and (a.unit == b.unit or not a.unit or not b.unit)


@dataclass(frozen=True)
class Quantity:
    """An exact number and the stem of its unit, the same for singular and plural, empty if there is none."""

    value: Fraction
    unit: str


def parse_quantity(text: str) -> Quantity | None:
    """Read a number with an optional unit; None if the text is anything else.

    >>> parse_quantity("2.5 apples")
    Quantity(value=Fraction(5, 2), unit='appl')
    >>> parse_quantity("2 million") is None
    True
    """
    match = _NUMBER.fullmatch(_FRACTION.sub(r"\1/\2", text)) if len(text) <= _MAX_NUMBER else None
    if match is None or not (match["whole"] or match["decimals"]) or (match["sign"] and match["inner"]):
        return None
    below = int(match["below"] or 1)
    units = [mark.strip() for mark in (match["currency"], match["percent"] or "") if mark.strip()]
    words = match["unit"].casefold().split()
    if below == 0 or _NOT_UNITS.intersection(words):
        return None
    units += [" ".join(map(_stem, words))] if words else []
    if len(set(units)) > 1:
        return None
    value = Fraction(match["whole"].replace(",", "") + (match["decimals"] or "") or "0") / below
    return Quantity(-value if "-" in (match["sign"], match["inner"]) else value, units[0] if units else "")


def _stem(word: str) -> str:
    stem = word if word.endswith("ss") else word.removesuffix("s")
    return _SAME_UNIT.get(stem, stem.removesuffix("e"))


def cleaned(text: str) -> str:
    r"""Without LaTeX and Markdown dress, outer white space and a final full stop; inner white space collapsed.

    >>> cleaned(r" **\boxed{ 5 }** "), cleaned(r"$1{,}000$.")
    ('5', '1,000')
    """
    text = " ".join(text.split()).removesuffix(".").rstrip()  # a full stop would hide what is wrapped
    for pattern in _WRAPPERS * 2:
        match = pattern.fullmatch(text)
        text = match[1].strip() if match else text
    text = _TEXT_MACRO.sub(r"\1", text)
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    return " ".join(text.split()).removesuffix(".").rstrip()


def _same_option(first: str, second: str) -> bool:
    letters = [_LETTER.fullmatch(text) for text in (first, second)]
    if not any(letters):
        return False
    a, b = (letter or _OPTION.fullmatch(text) for letter, text in zip(letters, (first, second), strict=True))
    return a is not None and b is not None and a[1] == b[1]
