"""Replacing words so that case, articles and plurals do not give it away."""

import re
from functools import lru_cache
from typing import NamedTuple

from rairl_lightning.text.perturbations.base import Edit

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ARTICLE = re.compile(r"\b(an?)(\s+)\Z", re.IGNORECASE)
_VOWELS = frozenset("aeiou")


class Site(NamedTuple):
    """Characters ``start:end`` of a text and the words that may replace them."""

    start: int
    end: int
    choices: tuple[str, ...]


@lru_cache(maxsize=8192)
def words_of(text: str) -> frozenset[str]:
    """The words of a text in lower case, remembered."""
    return frozenset(match[0].casefold() for match in WORD.finditer(text))


def in_case_of(new: str, old: str) -> str:
    """``new`` with the capitals of ``old``.

    >>> in_case_of("low", "High"), in_case_of("low", "HIGH"), in_case_of("low", "high")
    ('Low', 'LOW', 'low')
    """
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def word_edits(text: str, start: int, end: int, new: str) -> list[Edit]:
    """Replace a word, and ``a`` before it by ``an`` or the reverse where the new word needs it.

    >>> word_edits("a high one", 2, 6, "unknown")
    [Edit(start=0, end=1, text='an'), Edit(start=2, end=6, text='unknown')]
    """
    edits = [Edit(start, end, new)]
    article = _ARTICLE.search(text, max(0, start - 8), start)
    if article and _sounds_open(text[start:end]) != _sounds_open(new) and _fits(article[1], text[start:end]):
        changed = in_case_of("an" if _sounds_open(new) else "a", article[1][:1])
        edits.insert(0, Edit(article.start(1), article.end(1), changed))
    return edits


def _sounds_open(word: str) -> bool:
    return word[:1].casefold() in _VOWELS


def _fits(article: str, word: str) -> bool:
    return (len(article) == 2) == _sounds_open(word)
