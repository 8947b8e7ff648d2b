"""Errors of prose, as in medical reasoning: the wrong direction, entity, negation; the answer is kept."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rairl_lightning.text.perturbations.base import Edit, Perturbation, Rewrite, Solution, applied
from rairl_lightning.text.perturbations.entities import entity_sites
from rairl_lightning.text.perturbations.opposites import (
    DENIAL,
    DENIALS,
    DIRECTION,
    DIRECTIONS,
    HYPER_HYPO,
    PREFIXES,
    TACHY_BRADY,
)
from rairl_lightning.text.perturbations.words import WORD, in_case_of, word_edits, words_of

# Lower case only: "May" and "Will" are names. A comma or full stop behind it, and it is no statement.
_ASSERTED = re.compile(
    r"\b(?:is|are|was|were|can|could|will|would|should|must|may|might)\b(?=\s+[\w(*$])(?!\s+(?:not|never|no)\b)"
)
_DENIED = re.compile(
    r"\b(?:is|are|was|were|has|have|do|does|did|can|could|will|would|should|must|may|might)(\s+not)\b"
    r"|\b(?:is|are|was|were|has|have|had|do|does|did|could|would|should)(n['’]t)\b"
    r"|\bcan(not|['’]t)\b"
)

# "The answer is not (B)" would contradict the answer in so many words.
_CONCLUDES = re.compile(r"\b(?:answer|option|choice)\b", re.IGNORECASE)
_CLOSE = 30


@dataclass(frozen=True)
class DirectionFlip(Perturbation):
    """Turn a word round: increase and decrease, hyper- and hypo-, before and after, raises and lowers.

    The opposite keeps the word's inflection and case, and a neighbouring ``a`` or ``an`` agrees. That the flipped
    statement is false follows from the table, which has opposites only, not from understanding the text. Where some
    opposite occurs in the prompt or in a trace, one that nobody here ever writes is not taken.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "", "Hyperkalemia follows.", "B")
    >>> DirectionFlip()(demo, random.Random(0)).reasoning
    'Hypokalemia follows.'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        text = demonstration.reasoning
        places = [(match, DIRECTIONS) for match in DIRECTION.finditer(text)]
        places += [(match, PREFIXES) for pattern in (HYPER_HYPO, TACHY_BRADY) for match in pattern.finditer(text)]
        if not places:
            return None
        known = frozenset[str]().union(*map(words_of, (demonstration.prompt, text, *(o.reasoning for o in others))))
        usual = [(match, table) for match, table in places if _opposite(text, match, table) in known]
        match, table = rng.choice(usual or places)
        return Rewrite(applied(text, _turned(text, match, table)), demonstration.answer)


@dataclass(frozen=True)
class Negation(Perturbation):
    """Deny a statement, or take a denial away.

    One of three ways, each as likely as the others where the trace offers it, so that the word *not* alone tells
    little: ``is`` becomes ``is not``; ``is not``, ``cannot``, ``isn't`` lose it; ``likely`` becomes ``unlikely`` or the
    reverse. Statements of the answer (``the answer is (B)``) are left alone.

    >>> from rairl_lightning.types import Demonstration
    >>> Negation()(Demonstration("", "", "It does not pass.", "B"), random.Random(0)).reasoning
    'It does pass.'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        text = demonstration.reasoning
        ways = [way for way in (list(_added(text)), list(_removed(text)), list(_denied(text))) if way]
        return Rewrite(applied(text, rng.choice(rng.choice(ways))), demonstration.answer) if ways else None


@dataclass(frozen=True)
class WrongEntity(Perturbation):
    """Put another entity in the place of one: a name for a name, a unit for a unit, a term for a term of like form.

    The other entity occurs in the prompt or, if the prompt has none, in those of the others. Names are capitalised
    inside a sentence somewhere; units follow a number; terms are long nouns of the prompt, exchanged for one with
    the same ending (``-itis``, ``-tion``). One occurrence is changed, its case and plural are kept. Which of the
    three, where the trace has several, is drawn first.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "Where is the dial of Ann? The dial of Ben is at 4.", "Ann raises 3", "7")
    >>> WrongEntity()(demo, random.Random(0)).reasoning
    'Ben raises 3'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        text = demonstration.reasoning
        kinds = entity_sites(demonstration, others)
        if not kinds:
            return None
        site = rng.choice(rng.choice(kinds))
        edits = word_edits(text, site.start, site.end, rng.choice(site.choices))
        return Rewrite(applied(text, edits), demonstration.answer)


def _opposite(text: str, match: re.Match[str], table: dict[str, str]) -> str:
    """The whole word that a word, or its prefix, turns into, in lower case."""
    rest = WORD.match(text, match.end())
    return (table[match[0].casefold()] + (rest[0] if rest else "")).casefold()


def _turned(text: str, match: re.Match[str], table: dict[str, str]) -> list[Edit]:
    """A word turned round; of a prefix only the prefix."""
    new = in_case_of(table[match[0].casefold()], match[0])
    return word_edits(text, match.start(), match.end(), new)


def _added(text: str) -> Iterator[list[Edit]]:
    for match in _ASSERTED.finditer(text):
        if not _CONCLUDES.search(text[max(0, match.start() - _CLOSE) : match.start()]):
            yield [Edit(match.end(), match.end(), "not" if match[0] == "can" else " not")]


def _removed(text: str) -> Iterator[list[Edit]]:
    for match in _DENIED.finditer(text):
        group = match.lastindex or 0
        yield [Edit(match.start(group), match.end(group), "")]


def _denied(text: str) -> Iterator[list[Edit]]:
    for match in DENIAL.finditer(text):
        yield _turned(text, match, DENIALS)
