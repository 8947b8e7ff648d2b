"""Options of multiple-choice questions: written into a prompt, and found again in an answer."""

import re
import string
from collections.abc import Sequence
from functools import lru_cache

from rairl_lightning.text.answers import answers_agree, cleaned, parse_quantity

LETTERS = string.ascii_uppercase
"""Letters of the options in their order; a question has at most so many."""

LETTER = r"(?<![^\W_])\(?([A-Z])\b(?!['’])\)?"
"""An option's letter in prose, perhaps in brackets."""

SEVERAL = re.compile(rf"{LETTER}(?:(?:\s*[,/&]|\s+(?:and|or|to|through)\b)+\s*{LETTER})+")
"""A list of letters, as in ``A, B and (C)``."""

_LEAD = re.compile(r"(?i:(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s+)")
_LETTERED = re.compile(r"\(?([A-Za-z])(?:(\)?[.:,]|\)|\s+[–—-](?=\s))|(?=\s|\Z))\s*(.*)", re.DOTALL)
_LIST_MARK = re.compile(r"[,;/]|\b(?:or|and)\b")
_NOT_ANOTHER = re.compile(r"[\s,;(]{1,4}(?i:not)\s\(?[A-Z]\)?\W{0,3}\Z")
_LETTER_BEHIND = re.compile(r"\s\(([A-Z])\)\Z")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
_WORD = re.compile(r"\w+")


def prompt_with_options(question: str, options: Sequence[str]) -> str:
    r"""A question, and below it one line an option.

    >>> prompt_with_options("Which purrs?", ["cat", "dog"])
    'Which purrs?\nA. cat\nB. dog'
    """
    lines = (f"{letter}. {' '.join(text.split())}" for letter, text in zip(LETTERS, options, strict=False))
    return "\n".join([question, *lines])


def chosen_option(answer: str, options: Sequence[str]) -> str | None:
    """The letter of the one option that an answer names; None if it names none or several.

    Accepted are the letter (``B``, ``(b)``, ``B.``, ``Option B``), the letter with a text that names no other option
    (``B. dog``), and an option's text or its number written otherwise.

    Args:
        answer: what a model wrote as its answer.
        options: texts of the options A, B, …

    >>> options = ["cat", "dog", "5", "5.0"]
    >>> [chosen_option(answer, options) for answer in ("(B)", "B. Dog", "dog", "A. dog", "A or B", "C, D", "5.00", "E")]
    ['B', 'B', 'B', None, None, None, None, None]
    """
    text = cleaned(answer)
    if lead := _LEAD.match(text):
        text = cleaned(text[lead.end() :])
    if contrast := _NOT_ANOTHER.search(text):
        text = text[: contrast.start()]
    behind = _LETTER_BEHIND.search(text)
    if behind and _named_by_text(text[: behind.start()], options) == {behind[1]}:
        return behind[1]
    named = _named_by_text(text, options)
    match = _LETTERED.fullmatch(text)
    letter = match[1].upper() if match and match[1].upper() in LETTERS[: len(options)] else None
    if match is None or letter is None:
        return _only(named)
    if not match[3]:
        return letter if match[1].isupper() or not named else _only(named)
    if _words(match[3]) == _words(options[LETTERS.index(letter)]):
        return letter
    if not named and match[1].isupper() and letter not in "AI" and _begins_only(letter, match[3], options):
        return letter
    if named or not match[2] or match[1].islower() or SEVERAL.match(text):
        return _only(named)  # an article, a pronoun, a part of a question, several letters
    return None if _names_another(letter, match[3], options) else letter


def _only(named: set[str]) -> str | None:
    return next(iter(named)) if len(named) == 1 else None


def _named_by_text(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options that read exactly so; else of those of the same number, such as ``$5`` with ``5.0``."""
    exact = {letter for letter, option in zip(LETTERS, options, strict=False) if _plain(option) == _plain(text)}
    if exact or parse_quantity(text) is None:
        return exact
    return {letter for letter, option in zip(LETTERS, options, strict=False) if answers_agree(option, text)}


@lru_cache(maxsize=4096)  # options are few, answers are many
def _plain(option: str) -> str:
    return _HYPHEN.sub(" ", cleaned(option).casefold())


def _begins_only(letter: str, rest: str, options: Sequence[str]) -> bool:
    """Whether a text begins the words of this option, and of no other."""
    begun = [
        other
        for other, option in zip(LETTERS, options, strict=False)
        if f"{_words(option)} ".startswith(f"{_words(rest)} ")
    ]
    return begun == [letter]


def _names_another(letter: str, rest: str, options: Sequence[str]) -> bool:
    """Whether the text behind a letter names another option too, by its letter or in a list by its text."""
    own = options[LETTERS.index(letter)]
    letters = set(re.findall(LETTER, rest)) - set(re.findall(LETTER, own)) - {letter}
    if letters & set(LETTERS[: len(options)]):
        return True
    said = {_words(part) for part in _LIST_MARK.split(rest)} - {_words(part) for part in [own, *_LIST_MARK.split(own)]}
    return any(_words(option) in said for option in options if _words(option))


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
