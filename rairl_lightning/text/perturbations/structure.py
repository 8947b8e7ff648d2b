"""Steps that are missing, in the wrong order, or from another trace; the answer is kept."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.expressions import Token, tokenise
from rairl_lightning.text.perturbations.base import (
    Perturbation,
    Rewrite,
    Solution,
    changed_span,
    start_of_reasoning,
)
from rairl_lightning.text.perturbations.ledger import Ledger
from rairl_lightning.text.perturbations.numbers import number
from rairl_lightning.text.perturbations.words import WORD, words_of
from rairl_lightning.text.steps import step_spans

# "2." or "Step 2:" without "1." would give the error away, and so would "Answer: (B)" in the middle.
_NUMBERED = re.compile(r"[\s*#(-]*(?:step\s*)?[0-9]+\s*[.):]", re.IGNORECASE)
_CONCLUDES = re.compile(r"\b(?:answer|option|choice)\b", re.IGNORECASE)
_MOST_DONORS = 12
_MOST_TRIES = 8
_FOREIGN_LETTERS = 4
Span = tuple[int, int]


@dataclass(frozen=True)
class DroppedStep(Perturbation):
    r"""Leave out a step whose result is used later: the reader meets a number that nothing before it gives.

    The answer stays. A step is dropped only if some later number, or the answer, repeats its result, which neither the
    prompt nor what is left before gives; in a running total (each line starts from the result of the line before) if
    the next line starts from another number than it should, and not from one of the prompt's. Only where no earlier
    step can go, the last one does. Steps of a numbered list stay. The span ends with that number, or the answer, and
    begins with the first character that differs, or with the number's step if that is later.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "48 in April, half as many in May", "48/2 = 24 in May.\nThat is 48+24 = 72.", "72")
    >>> made = DroppedStep()(demo, random.Random(1))
    >>> made.reasoning, render_completion(made.reasoning, made.answer)[slice(*made.span)]
    ('That is 48+24 = 72.', 'That is 48+24')
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        steps = step_spans(demonstration.reasoning)
        if len(steps) < 2:
            return None
        ledger = Ledger.of(demonstration, others)
        last = len(steps) - 1
        for index in [*rng.sample(range(last), last), last]:
            step = steps[index]
            if not _may_move(demonstration.reasoning, step):
                continue
            following = range(_first_place(ledger, step[1]), len(ledger.numbers))
            before = range(_first_place(ledger, step[0]))
            place = next((place for place in following if _dangles(ledger, place, step, before)), None)
            cut = (step[0], steps[index + 1][0]) if index + 1 < len(steps) else (steps[index - 1][1], step[1])
            if place is not None:
                return _dropped(demonstration, cut, ledger.numbers[place])
            if _answer_dangles(ledger, step):
                return _dropped(demonstration, cut, None)
        return None


@dataclass(frozen=True)
class ReorderedSteps(Perturbation):
    r"""Exchange two neighbouring steps of which the second uses the result of the first.

    The answer stays. The step that now comes first repeats a number which neither the prompt nor what stands before it
    gives; in a running total it starts from another number than the result before it. Steps of a numbered list and
    conclusions stay in place. The span ends with that number and begins with the first character that differs.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "48 in April, half as many in May", "48/2 = 24 in May.\nThat is 48+24 = 72.", "72")
    >>> made = ReorderedSteps()(demo, random.Random(0))
    >>> made.reasoning, render_completion(made.reasoning, made.answer)[slice(*made.span)]
    ('That is 48+24 = 72.\n48/2 = 24 in May.', 'That is 48+24')
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        reasoning = demonstration.reasoning
        pairs = list(pairwise(step_spans(reasoning)))
        ledger = Ledger.of(demonstration, others)
        for first, second in rng.sample(pairs, len(pairs)):
            if not (_may_move(reasoning, first) and _may_move(reasoning, second)):
                continue
            inside = range(_first_place(ledger, second[0]), _first_place(ledger, second[1]))
            before = range(_first_place(ledger, first[0]))
            place = next((place for place in inside if _dangles(ledger, place, first, before)), None)
            if place is not None:
                return _exchanged(demonstration, first, second, ledger.numbers[place])
        return None


@dataclass(frozen=True)
class BorrowedStep(Perturbation):
    """Put a step of another demonstration in the place of one of this trace's; the answer stays.

    Of a dozen random steps of the others it takes the one most like the replaced step in ending and length, so that
    style tells little. It must not belong here: it names something that neither prompt nor trace names, or uses a
    number that they do not give, or, in a running total, does not start from the result before it. Both steps have an
    equation or neither has. Conclusions and steps of a numbered list are neither lent nor replaced, and a step that
    several of the others have (``Let's think step by step.``) is not lent. The span is what differs. Rejected without
    others.
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        reasoning = demonstration.reasoning
        own = [step for step in step_spans(reasoning) if _may_move(reasoning, step)]
        ledger, donors = Ledger.of(demonstration, others), _donors(others, rng)
        for start, end in rng.sample(own, min(len(own), _MOST_TRIES)):
            replaced = reasoning[start:end]
            foreign = [
                text for text in donors if ("=" in text) == ("=" in replaced) and _is_foreign(ledger, text, start)
            ]
            if foreign:
                borrowed = min(foreign, key=lambda text: _unlikeness(text, replaced))
                return Rewrite(reasoning[:start] + borrowed + reasoning[end:], demonstration.answer)
        return None


def _may_move(reasoning: str, step: Span) -> bool:
    text = reasoning[slice(*step)]
    return not _NUMBERED.match(text) and not _CONCLUDES.search(text)


def _first_place(ledger: Ledger, position: int) -> int:
    """Place of the first number at or after a character."""
    return sum(token.start < position for token in ledger.numbers)


def _dangles(ledger: Ledger, place: int, step: Span, before: range) -> bool:
    """Whether a number repeats a result of ``step`` and, of the numbers that are left, ``before`` does not give it."""
    sources = ledger.sources(place)
    if place in ledger.equation_of or not sources:
        return False
    if not all(step[0] <= ledger.numbers[source].start < step[1] for source in sources):
        return False
    if place in ledger.heirs:
        return _breaks_off(ledger, ledger.values[place], before)
    return _is_new(ledger, ledger.values[place], before)


def _breaks_off(ledger: Ledger, value: Fraction, before: range) -> bool:
    """Whether a running total goes on from ``value``, where it does not stand.

    A number of the prompt may start another one, but not around a circle, where every number is the prompt's.
    """
    return value != _running_value(ledger, before) and (ledger.modulus is not None or value not in ledger.given)


def _is_new(ledger: Ledger, value: Fraction, left: Iterable[int]) -> bool:
    """Whether neither the prompt nor the numbers at these places have the value."""
    return value not in ledger.given and all(ledger.values[other] != value for other in left)


def _running_value(ledger: Ledger, before: range) -> Fraction:
    """Where a running total stands after the numbers ``before``, or where it starts."""
    results = [place for place in before if place in ledger.equation_of]
    if results:
        return ledger.values[results[-1]]
    return ledger.values[ledger.operands(ledger.equations[0])[0]]


def _answer_dangles(ledger: Ledger, step: Span) -> bool:
    """Whether only ``step`` gives the answer."""
    place = ledger.answer_place
    if place is None or not step[0] <= ledger.numbers[place].start < step[1]:
        return False
    value = ledger.values[place]
    if ledger.heirs:
        return _breaks_off(ledger, value, range(_first_place(ledger, step[0])))
    left = (other for other, token in enumerate(ledger.numbers) if not step[0] <= token.start < step[1])
    return _is_new(ledger, value, left)


def _dropped(demonstration: Solution, cut: Span, number: Token | None) -> Rewrite:
    """Without the characters of ``cut``; the error shows at ``number``, or at the answer if there is none."""
    reasoning = demonstration.reasoning[: cut[0]] + demonstration.reasoning[cut[1] :]
    shown = None if number is None else (number.start - (cut[1] - cut[0]), number.end - (cut[1] - cut[0]))
    return _shown(demonstration, reasoning, shown)


def _exchanged(demonstration: Solution, first: Span, second: Span, number: Token) -> Rewrite:
    old = demonstration.reasoning
    between = old[first[1] : second[0]]
    reasoning = old[: first[0]] + old[slice(*second)] + between + old[slice(*first)] + old[second[1] :]
    back = second[0] - first[0]
    return _shown(demonstration, reasoning, (number.start - back, number.end - back))


def _shown(demonstration: Solution, reasoning: str, shown: Span | None) -> Rewrite:
    """With a span that ends where the error shows, and begins in the same step where the text differs."""
    after = render_completion(reasoning, demonstration.answer)
    start, _ = changed_span(render_completion(demonstration.reasoning, demonstration.answer), after)
    if shown is None:
        return Rewrite(reasoning, demonstration.answer, (start, after.rindex("\n")))
    shift = start_of_reasoning(reasoning)
    step = max((begin for begin, _ in step_spans(reasoning) if begin <= shown[0]), default=0)
    start = max(min(start, shown[0] + shift), step + shift)
    return Rewrite(reasoning, demonstration.answer, (start, shown[1] + shift))


def _donors(others: Sequence[Solution], rng: random.Random) -> list[str]:
    """Some steps of other traces; none that several of them have, which is a phrase and wrong nowhere."""
    texts = []
    for other in rng.choices(others, k=_MOST_DONORS) if others else ():
        steps = [step for step in step_spans(other.reasoning) if _may_move(other.reasoning, step)]
        texts += [other.reasoning[slice(*rng.choice(steps))]] if steps else []
    reasonings = {other.reasoning for other in others}
    return [text for text in texts if sum(text in reasoning for reasoning in reasonings) == 1]


def _is_foreign(ledger: Ledger, text: str, position: int) -> bool:
    """Whether a step cannot stand at ``position``: it has another subject, or numbers from nowhere."""
    here = words_of(ledger.demonstration.prompt) | words_of(ledger.demonstration.reasoning)
    if any(match[0].casefold() not in here and _is_telling(match[0]) for match in WORD.finditer(text)):
        return True
    tokens = tokenise(text)
    if not ledger.heirs:
        values = [number(token.text) for token in tokens if token.kind == "number"]
        return any(value not in ledger.given and value not in ledger.values for value in values)
    operands = [number(a.text) for a, b in pairwise(tokens) if a.kind == "number" and b.kind == "operator"]
    return bool(operands) and operands[0] != _running_value(ledger, range(_first_place(ledger, position)))


def _is_telling(word: str) -> bool:
    return len(word) >= _FOREIGN_LETTERS or word.istitle()


def _unlikeness(text: str, other: str) -> tuple[bool, int]:
    """How much two steps differ in looks: another last character, then the length."""
    return text[-1].isalnum() != other[-1].isalnum(), abs(len(text) - len(other))
