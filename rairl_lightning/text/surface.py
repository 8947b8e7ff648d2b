"""What can be seen of a trace without reading it: lengths, layout, spacing, notation, first words.

None of it is about the reasoning. Where one of these tells the discriminator's positives from its negatives, the
learned reward may pay for that instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rairl_lightning.text.chat import ANSWER_CLOSE, ANSWER_OPEN, TAG, THINK_CLOSE, THINK_OPEN, Parsed, parse_completion
from rairl_lightning.text.steps import step_spans


class Family(StrEnum):
    """What a feature is about, and so what can be done about it."""

    LENGTH = "length"
    ENDING = "ending"
    LAYOUT = "layout"
    SPACING = "spacing"
    CHARACTERS = "characters"
    NOTATION = "notation"
    WORDS = "words"
    TOKENS = "tokens"


@dataclass(frozen=True)
class NumberFeature:
    """A number that is measured on a completion's text.

    Attributes:
        meaning: what it counts, for people.
        family: what it is about.
        measure: text to number, never NaN.
    """

    meaning: str
    family: Family
    measure: Callable[[str], float]


@dataclass(frozen=True)
class SymbolFeature:
    """A few symbols read off a completion's text, such as its first words.

    Attributes:
        meaning: what they are, for people.
        family: what they are about.
        read: text to symbols; a symbol says its place, so that the same word elsewhere is another symbol.
    """

    meaning: str
    family: Family
    read: Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Surface:
    """All features of one completion, by name."""

    numbers: dict[str, float]
    symbols: dict[str, tuple[str, ...]]


def surface(text: str) -> Surface:
    r"""Measure a completion; malformed and empty ones, too.

    >>> seen = surface("<think>\n2 + 2 = 4 \n</think>\n<answer>\n4\n</answer>\n")
    >>> {name: seen.numbers[name] for name in ("steps", "well_formed", "line_end_spaces", "trailing_space")}
    {'steps': 2, 'well_formed': True, 'line_end_spaces': 1, 'trailing_space': 1}
    >>> seen.symbols["first_words"]
    ('0 2', '1 +', '2 2')
    """
    return Surface(
        {name: feature.measure(text) for name, feature in NUMBER_FEATURES.items()},
        {name: feature.read(text) for name, feature in SYMBOL_FEATURES.items()},
    )


def placed(symbols: list[str]) -> tuple[str, ...]:
    """Symbols with their places.

    >>> placed(["a", "a"])
    ('0 a', '1 a')
    """
    return tuple(f"{place} {symbol}" for place, symbol in enumerate(symbols))


def _count(pattern: str) -> Callable[[str], float]:
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: len(compiled.findall(text))


def _share(part: str, whole: str) -> Callable[[str], float]:
    """Matches of ``part`` for each match of ``whole``; 0 where there is none."""
    parts, wholes = _count(part), _count(whole)
    return lambda text: parts(text) / max(1, wholes(text))


def _per_character(is_one: Callable[[str], bool]) -> Callable[[str], float]:
    return lambda text: sum(map(is_one, text)) / max(1, len(text))


def _is_punctuation(character: str) -> bool:
    return not (character.isalnum() or character.isspace())


@lru_cache(maxsize=1)  # several features of one text read it
def _parsed(text: str) -> Parsed:
    return parse_completion(text)


def _before_tags(text: str) -> float:
    tag = TAG.search(text)
    return len(text[: tag.start()].strip()) if tag else 0


def _after_tags(text: str) -> float:
    ends = [tag.end() for tag in TAG.finditer(text)]
    return len(text[ends[-1] :].strip()) if ends else 0


def _reasoning_words(text: str) -> list[str]:
    reasoning = _parsed(text).reasoning
    return (text if reasoning is None else reasoning).split()


_NUMBER = r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_OPERATOR, _OPERAND = r"[-+*×/÷=]", r"(?=[\d$€£(])"

NUMBER_FEATURES: dict[str, NumberFeature] = {
    # Length
    "characters": NumberFeature("characters", Family.LENGTH, len),
    "words": NumberFeature("words", Family.LENGTH, lambda text: len(text.split())),
    "lines": NumberFeature("line breaks", Family.LENGTH, lambda text: text.count("\n")),
    "steps": NumberFeature("reasoning steps", Family.LENGTH, lambda text: len(step_spans(text))),
    "numbers": NumberFeature("numbers", Family.LENGTH, _count(_NUMBER)),
    "answer_characters": NumberFeature(
        "characters of the answer", Family.LENGTH, lambda text: len(_parsed(text).answer or "")
    ),
    # Layout
    "well_formed": NumberFeature(
        "one think block, then one answer block, and nothing else",
        Family.LAYOUT,
        lambda text: _parsed(text).well_formed,
    ),
    "think_opened": NumberFeature(f"{THINK_OPEN} tags", Family.LAYOUT, lambda text: text.count(THINK_OPEN)),
    "think_closed": NumberFeature(f"{THINK_CLOSE} tags", Family.LAYOUT, lambda text: text.count(THINK_CLOSE)),
    "answer_opened": NumberFeature(f"{ANSWER_OPEN} tags", Family.LAYOUT, lambda text: text.count(ANSWER_OPEN)),
    "answer_closed": NumberFeature(f"{ANSWER_CLOSE} tags", Family.LAYOUT, lambda text: text.count(ANSWER_CLOSE)),
    "tags_on_own_line": NumberFeature(
        "share of tags that stand alone on their line",
        Family.LAYOUT,
        _share(rf"^[ \t]*(?:{TAG.pattern})[ \t]*$", TAG.pattern),
    ),
    "before_tags": NumberFeature("characters before the first tag", Family.LAYOUT, _before_tags),
    "after_tags": NumberFeature("characters after the last tag", Family.LAYOUT, _after_tags),
    # Spacing
    "leading_space": NumberFeature(
        "white space at the very beginning", Family.SPACING, lambda text: len(text) - len(text.lstrip())
    ),
    "trailing_space": NumberFeature(
        "white space at the very end", Family.SPACING, lambda text: len(text) - len(text.rstrip())
    ),
    "line_end_spaces": NumberFeature("white space before a line break", Family.SPACING, _count(r"[ \t]+\n")),
    "indented_lines": NumberFeature("indented lines", Family.SPACING, _count(r"(?<=\n)[ \t]+(?=\S)")),
    "blank_lines": NumberFeature("blank lines", Family.SPACING, _count(r"^[ \t]*\n")),
    "double_spaces": NumberFeature("double spaces", Family.SPACING, _count(r"(?<=\S)  +(?=\S)")),
    "odd_spaces": NumberFeature(
        "tabs, carriage returns and spaces that are none of the keyboard's",
        Family.SPACING,
        _count("[\t\r\u00a0\u2000-\u200b\u202f\u3000\ufeff]"),
    ),
    "spaces_before_punctuation": NumberFeature(
        "white space before a comma or full stop", Family.SPACING, _count(r"(?<=\w) +[,.;:!?](?!\d)")
    ),
    # Characters
    "digit_share": NumberFeature("share of digits", Family.CHARACTERS, _per_character(str.isdigit)),
    "punctuation_share": NumberFeature("share of punctuation", Family.CHARACTERS, _per_character(_is_punctuation)),
    "capital_share": NumberFeature(
        "share of capitals among the letters",
        Family.CHARACTERS,
        lambda text: sum(map(str.isupper, text)) / max(1, sum(map(str.isalpha, text))),
    ),
    "non_ascii_share": NumberFeature(
        "share of characters outside of ASCII",
        Family.CHARACTERS,
        _per_character(lambda character: not character.isascii()),
    ),
    "word_length": NumberFeature("characters of a word", Family.CHARACTERS, _share(r"\S", r"\S+")),
    # Notation
    "decimals": NumberFeature("share of numbers with decimals", Family.NOTATION, _share(r"\d\.\d", _NUMBER)),
    "decimal_zeros": NumberFeature("decimals that end in 0, as in 2.50", Family.NOTATION, _count(r"\d\.\d*0(?!\d)")),
    "thousands_separators": NumberFeature(
        "numbers written like 1,000", Family.NOTATION, _count(r"(?<=\d),\d{3}(?!\d)")
    ),
    "spaced_operators": NumberFeature(
        "share of operators that have spaces around them",
        Family.NOTATION,
        _share(rf"(?<=[\d)%]) +{_OPERATOR} +{_OPERAND}", rf"(?<=[\d)%]) *{_OPERATOR} *{_OPERAND}"),
    ),
    "equals_signs": NumberFeature("equals signs", Family.NOTATION, lambda text: text.count("=")),
    "currency_signs": NumberFeature("currency signs", Family.NOTATION, _count(r"[$€£]")),
    "calculator_marks": NumberFeature("calculator marks like <<2+2=4>>", Family.NOTATION, _count(r"<<|>>")),
    "markup": NumberFeature(
        "marks of Markdown and LaTeX", Family.NOTATION, _count(r"\*\*|`|^#+ |^[-*] |\\[a-zA-Z(\[]")
    ),
    "full_stops": NumberFeature(
        "share of lines that end with a full stop", Family.NOTATION, _share(r"[.!?]$", r"^.+$")
    ),
}
"""Numbers by name."""

SYMBOL_FEATURES: dict[str, SymbolFeature] = {
    "first_words": SymbolFeature(
        "first three words of the reasoning", Family.WORDS, lambda text: placed(_reasoning_words(text)[:3])
    ),
    "last_words": SymbolFeature(
        "last two words of the reasoning", Family.WORDS, lambda text: placed(_reasoning_words(text)[:-3:-1])
    ),
}
"""Symbols by name."""
