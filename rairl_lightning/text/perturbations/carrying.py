"""One wrong number, carried on: every later line is right by what stands before it, and the answer is wrong."""

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import ClassVar

from rairl_lightning.text.expressions import Token
from rairl_lightning.text.perturbations.base import Edit, Perturbation, Rewrite, Solution, edited, spliced
from rairl_lightning.text.perturbations.ledger import Ledger
from rairl_lightning.text.perturbations.modulus import is_true
from rairl_lightning.text.perturbations.numbers import near_numbers, number, rewritten

_MOST_TRIES = 12
_MOST_STARTS = 16
Changes = dict[int, Fraction]


def carried(ledger: Ledger, first: Mapping[int, Fraction]) -> Changes | None:
    """All numbers that change when the given ones do, by place.

    Read from left to right: a number that repeats a changed result is changed likewise, and the result of an equation
    with a changed operand is computed anew.

    Args:
        ledger: the trace's numbers.
        first: new values by place; not empty.

    Returns:
        None where it cannot be told what must follow: a number may come from the prompt or from a changed result, or
        comes from nowhere, or stands in a step with an equals sign that could not be read.
    """
    changed = dict(first)
    for place in range(min(first), len(ledger.numbers)):
        if place not in first and not _follow(ledger, place, changed):
            return None
    if _is_told_ahead(ledger, changed) or ledger.steps_of(changed) & ledger.unread_steps:
        return None
    return changed


def _is_told_ahead(ledger: Ledger, changed: Changes) -> bool:
    """Whether words before an equation tell its result, which is another now (``72 in all, since 48 + 24 = 72``)."""
    told = [place for place in range(len(ledger.numbers)) if place not in ledger.in_equation and place not in changed]
    return any(
        ledger.values[place] == ledger.values[result] and ledger.values[place] not in ledger.given
        for result in changed
        if result in ledger.equation_of
        for place in told
        if place < result
    )


def _follow(ledger: Ledger, place: int, changed: Changes) -> bool:
    """Change the number at ``place`` if it depends on changed ones; False if that cannot be told."""
    if place in ledger.equation_of:
        return _follow_result(ledger, place, changed)
    sources = ledger.sources(place)
    new = {changed.get(source) for source in sources}
    if new <= {None}:
        return ledger.traceable[place]
    told_by_prompt = place not in ledger.heirs and ledger.values[place] in ledger.given
    if len(new) > 1 or told_by_prompt:
        return False
    changed[place] = changed[sources[-1]]
    return True


def _follow_result(ledger: Ledger, place: int, changed: Changes) -> bool:
    equation = ledger.equation_of[place]
    if not any(operand in changed for operand in ledger.operands(equation)):
        same_value_again = not ledger.heirs and ledger.values[place] in _old(ledger, changed)
        return not same_value_again
    value = ledger.recomputed(equation, changed)
    if value is None or (value == 0 and ledger.modulus is None):
        return False
    if value != ledger.values[place]:
        changed[place] = value
    return True


def _old(ledger: Ledger, places: Mapping[int, object]) -> set[Fraction]:
    return {ledger.values[place] for place in places}


@dataclass(frozen=True)
class Carried(Perturbation):
    """What the carried kinds share: a variant names the places where the error may start, and the wrong numbers."""

    changes_answer: ClassVar[bool] = True

    @abstractmethod
    def starts(self, ledger: Ledger, rng: random.Random) -> Iterator[list[Changes]]:
        """Places in random order; for each, the ways to make it wrong, likewise."""

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """The first place with an error that reaches the answer; of its errors, one that keeps all lengths if any."""
        ledger = Ledger.of(demonstration, others)
        if ledger.answer_place is None:
            return None
        for ways in islice(self.starts(ledger, rng), _MOST_STARTS):
            found = [rewrite for way in ways[:_MOST_TRIES] if (rewrite := _rewrite(ledger, way))]
            if found:
                length = len(demonstration.reasoning)
                return min(found, key=lambda rewrite: abs(len(rewrite.reasoning) - length))
        return None


def _rewrite(ledger: Ledger, first: Changes) -> Rewrite | None:
    """The trace with an error carried on to the answer."""
    changed = carried(ledger, first)
    if changed is None or ledger.answer_place not in changed or ledger.answer_number is None:
        return None
    texts = ledger.texts(changed)
    token = ledger.answer_number
    answer = rewritten(token.text, changed[ledger.answer_place], commas=ledger.has_commas)
    if texts is None or answer is None:
        return None
    edits = [Edit(ledger.numbers[place].start, ledger.numbers[place].end, text) for place, text in texts.items()]
    return edited(ledger.demonstration.reasoning, spliced(ledger.demonstration.answer, token, answer), edits)


def _shuffled(items: Sequence[Changes], rng: random.Random) -> list[Changes]:
    return rng.sample(items, len(items))


@dataclass(frozen=True)
class CarriedSlip(Carried):
    r"""Miscalculate one step and go on from the wrong result, consistently, to a wrong answer.

    One result is off by one digit (around a circle: any other place of it); every later number that repeats it follows,
    every later result is computed anew, as does the answer. So exactly one line is false, and all after it are right by
    what stands before them. The span is the miscalculated result. Rejected where the result does not reach the answer,
    where the dependencies cannot be told, and where a later number would need another notation.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "48 in April, half as many in May", "48/2 = 24 in May.\nThat is 48+24 = 72.", "72")
    >>> made = CarriedSlip()(demo, random.Random(3))
    >>> made.reasoning, made.answer
    ('48/2 = 22 in May.\nThat is 48+22 = 70.', '70')
    """

    def starts(self, ledger: Ledger, rng: random.Random) -> Iterator[list[Changes]]:
        """See the class."""
        for place in rng.sample(list(ledger.equation_of), len(ledger.equation_of)):
            equation = ledger.equation_of[place]
            if not is_true(equation, ledger.modulus):
                continue
            old = ledger.values[place]
            near = map(number, near_numbers(equation.result.text))
            wrong = near if ledger.modulus is None else map(Fraction, range(ledger.modulus))
            yield _shuffled([{place: value} for value in wrong if value != old], rng)


@dataclass(frozen=True)
class MisquotedNumber(Carried):
    """What the misquoting kinds share: one operand that the prompt gives is quoted wrongly in one step."""

    @abstractmethod
    def misquotes(self, ledger: Ledger, token: Token) -> list[Fraction]:
        """Wrong values for a number of the prompt."""

    def starts(self, ledger: Ledger, rng: random.Random) -> Iterator[list[Changes]]:
        """Every operand that the prompt gives and no result does, with its mentions in the same step."""
        quoted = [
            (equation, place)
            for equation in ledger.equations
            if is_true(equation, ledger.modulus)
            for place in ledger.operands(equation)
            if ledger.values[place] in ledger.given and not ledger.sources(place)
        ]
        for equation, place in rng.sample(quoted, len(quoted)):
            values = [ledger.values[operand] for operand in ledger.operands(equation)]
            if values.count(ledger.values[place]) > 1:
                continue
            places = [place, *_mentions(ledger, place)]
            wrong = self.misquotes(ledger, ledger.numbers[place])
            yield _shuffled([dict.fromkeys(places, value) for value in wrong], rng)


def _mentions(ledger: Ledger, place: int) -> list[int]:
    """The same number in the words of the same step."""
    step = ledger.step_at(ledger.numbers[place].start)
    return [
        other
        for other, token in enumerate(ledger.numbers)
        if other not in ledger.in_equation
        and ledger.values[other] == ledger.values[place]
        and ledger.step_at(token.start) == step
    ]


@dataclass(frozen=True)
class WrongOperand(MisquotedNumber):
    r"""Quote a number that is not the prompt's, and compute consistently with it to a wrong answer.

    One operand of one step, which the prompt gives, is off by one digit, in the equation and in the words of that
    step; its result, whatever depends on it, and the answer follow. No line is false by itself: only the prompt tells.
    The span is the first wrong quote.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "48 in April, half as many in May", "48/2 = 24 in May.\nThat is 48+24 = 72.", "72")
    >>> made = WrongOperand()(demo, random.Random(0))
    >>> made.reasoning, made.answer
    ('48/4 = 12 in May.\nThat is 48+12 = 60.', '60')
    """

    def misquotes(self, ledger: Ledger, token: Token) -> list[Fraction]:
        """Near numbers that the prompt does not have."""
        return [value for text in near_numbers(token.text) if (value := number(text)) and value not in ledger.given]


@dataclass(frozen=True)
class StrayOperand(MisquotedNumber):
    """Quote another number of the prompt, one that belongs elsewhere, and compute consistently with it.

    Like :class:`WrongOperand`, but whoever only checks that the number occurs in the prompt notices nothing: with
    distractors in the prompt this is the error of a reader who took the wrong sentence.
    """

    def misquotes(self, ledger: Ledger, token: Token) -> list[Fraction]:
        """The prompt's other numbers."""
        return [value for text in ledger.prompt_numbers if (value := number(text)) and value != number(token.text)]
