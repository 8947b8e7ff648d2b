"""One local error of arithmetic; the rest of the trace is kept, and the answer too unless the kind says otherwise."""

import random
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from rairl_lightning.text.equations import Equation, find_quantities
from rairl_lightning.text.expressions import OPERATORS, Token
from rairl_lightning.text.perturbations.base import Perturbation, Rewrite, Solution, spliced
from rairl_lightning.text.perturbations.modulus import equations_of, is_true, modulus_of
from rairl_lightning.text.perturbations.numbers import near_number, number
from rairl_lightning.text.steps import step_spans

_MOST_NUMBERS = 32
_NOTHING_COUNTED = frozenset(["and", "or", "to", "of", "by", "from", "in", "at", "is", "are", "times", "x"])
_NEXT_WORD = re.compile(r" ?[^\W\d_]+")


@dataclass(frozen=True)
class OperatorFlip(Perturbation):
    """Swap an operator of an equation so that another value comes out; the result stays as written and is now wrong.

    Only operators of an ``expression = number`` are touched, never bullets, hyphens, ranges or dates: where the
    equation does not hold as it stands (other arithmetic, say modulo 10), white space must set them off. The new
    operator is written as the trace writes it elsewhere (``x``, ``×``, ``*``), so that style does not give it away.

    >>> from rairl_lightning.types import Demonstration
    >>> OperatorFlip()(Demonstration("", "", "She sells 3 - 2 = 1 egg.", "1"), random.Random(0)).reasoning
    'She sells 3 * 2 = 1 egg.'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        reasoning = demonstration.reasoning
        equations, modulus = equations_of(reasoning), modulus_of(demonstration, others)
        written = {"+": "+", "-": "-", "*": "*", "/": "/"}
        written |= {OPERATORS[token.text]: token.text for equation in equations for token in equation.operators}
        flips = [
            (token, symbol)
            for equation in equations
            for token in equation.operators
            if equation.holds or _is_spaced(reasoning, token)
            for meaning, symbol in written.items()
            if meaning != OPERATORS[token.text] and made_wrong(equation, equation.replaced(token, symbol), modulus)
        ]
        if not flips:
            return None
        token, symbol = rng.choice(flips)
        return Rewrite(spliced(reasoning, token, symbol), demonstration.answer)


@dataclass(frozen=True)
class NumberCorruption(Perturbation):
    """Change one digit of one number of the reasoning by 1 to 3; the number keeps its length and its notation.

    Labels (``1.``, ``Step 2``) and numbers inside words (``B12``, ``5th``) are left alone. A number of an equation is
    changed only if that makes the equation wrong.

    >>> from rairl_lightning.types import Demonstration
    >>> NumberCorruption()(Demonstration("", "", "She sells 3 - 2 = 1 egg.", "1"), random.Random(0)).reasoning
    'She sells 2 - 2 = 1 egg.'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        reasoning, modulus = demonstration.reasoning, modulus_of(demonstration, others)
        equations = equations_of(reasoning)
        numbers = find_quantities(reasoning)
        rng.shuffle(numbers)
        for token in numbers:
            changed = near_number(token.text, rng)
            touched = [equation for equation in equations if _has(equation, token)]
            if not touched or any(made_wrong(e, e.replaced(token, changed), modulus) for e in touched):
                return Rewrite(spliced(reasoning, token, changed), demonstration.answer)
        return None


@dataclass(frozen=True)
class NudgedAnswer(Perturbation):
    """Change the final answer only, so that it no longer follows from the reasoning, which is kept.

    A number in the answer moves by one digit; a lone option letter becomes another one (of the first four, or up to
    itself if it comes later). Other answers are rejected, and so is a change after which the answers still agree.

    >>> from rairl_lightning.types import Demonstration
    >>> NudgedAnswer()(Demonstration("", "", "She sells 3 - 2 = 1 egg.", "1"), random.Random(1)).answer
    '3'
    """

    changes_answer: ClassVar[bool] = True

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        nudged = self._nudged(demonstration.answer.strip(), rng)
        return None if nudged is None else Rewrite(demonstration.reasoning, nudged)

    def _nudged(self, answer: str, rng: random.Random) -> str | None:
        if len(answer) == 1 and answer in string.ascii_uppercase:
            last = max(answer, "D")
            return rng.choice([letter for letter in string.ascii_uppercase if letter <= last and letter != answer])
        numbers = find_quantities(answer)
        if not numbers:
            return None
        token = rng.choice(numbers)
        return spliced(answer, token, near_number(token.text, rng))


@dataclass(frozen=True)
class SwappedOperands(Perturbation):
    """Exchange the numbers around a minus or a division sign: ``a - b = c`` becomes ``b - a = c``.

    The result stays as written and is now wrong, so that no negative number or fraction gives the error away. Only
    in equations that were true, and only if the value changes (around a circle 7 - 2 and 2 - 7 are the same modulo 10).
    The span runs from the first to the second number.

    >>> from rairl_lightning.types import Demonstration
    >>> SwappedOperands()(Demonstration("", "", "She sells 3 - 2 = 1 egg.", "1"), random.Random(0)).reasoning
    'She sells 2 - 3 = 1 egg.'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        modulus = modulus_of(demonstration, others)
        swaps = [
            (first, second)
            for equation in equations_of(demonstration.reasoning)
            if is_true(equation, modulus)
            for first, second in _around_minus_and_division(equation)
            if made_wrong(equation, _exchanged(equation, first, second), modulus)
        ]
        return _with_exchanged(demonstration, *rng.choice(swaps)) if swaps else None


@dataclass(frozen=True)
class SwappedQuantities(Perturbation):
    """Exchange two different numbers of one step, wherever they stand in it.

    Where one of them is part of an equation, an equation must become wrong by it; where both stand in words, they must
    count different things (the words right behind them differ), since ``5 and 7`` is as good as ``7 and 5``. The span
    runs from the first to the second number.

    >>> from rairl_lightning.types import Demonstration
    >>> SwappedQuantities()(Demonstration("", "", "3 hens lay 4 eggs", "12"), random.Random(0)).reasoning
    '4 hens lay 3 eggs'
    """

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        reasoning, modulus = demonstration.reasoning, modulus_of(demonstration, others)
        numbers = find_quantities(reasoning)
        pairs = [
            pair
            for start, end in step_spans(reasoning)
            for pair in combinations(_some([token for token in numbers if start <= token.start < end], rng), 2)
            if number(pair[0].text) != number(pair[1].text)
        ]
        for first, second in rng.sample(pairs, len(pairs)):
            touched = [e for e in equations_of(reasoning) if _has(e, first) or _has(e, second)]
            wrong = any(made_wrong(e, _exchanged(e, first, second), modulus) for e in touched)
            if wrong or (not touched and _count_different_things(reasoning, first, second)):
                return _with_exchanged(demonstration, first, second)
        return None


def _some(tokens: list[Token], rng: random.Random) -> list[Token]:
    """At most so many numbers of a step, in order, that their pairs can be listed."""
    if len(tokens) <= _MOST_NUMBERS:
        return tokens
    return [tokens[place] for place in sorted(rng.sample(range(len(tokens)), _MOST_NUMBERS))]


def _has(equation: Equation, token: Token) -> bool:
    return token in equation.left or token == equation.result


def _around_minus_and_division(equation: Equation) -> Iterator[tuple[Token, Token]]:
    places = {token.start: place for place, token in enumerate(equation.left)}
    for operator in equation.operators:
        place = places[operator.start]
        around = equation.left[place - 1], *equation.left[place + 1 : place + 2]
        if OPERATORS[operator.text] in "-/" and [token.kind for token in around] == ["number", "number"]:
            yield around[0], around[1]


def _exchanged(equation: Equation, first: Token, second: Token) -> Equation:
    return equation.replaced(first, second.text).replaced(second, first.text)


def _with_exchanged(demonstration: Solution, first: Token, second: Token) -> Rewrite:
    reasoning = spliced(spliced(demonstration.reasoning, second, first.text), first, second.text)
    return Rewrite(reasoning, demonstration.answer)


def _count_different_things(text: str, first: Token, second: Token) -> bool:
    """Whether a word follows each number directly, and not the same."""
    words = [match[0].strip().casefold() for token in (first, second) if (match := _NEXT_WORD.match(text, token.end))]
    return len(set(words)) == 2 and not _NOTHING_COUNTED.intersection(words)


def made_wrong(before: Equation, after: Equation, modulus: int | None = None) -> bool:
    """Whether the equation says something else that is false; a division by zero would be too easy to spot."""
    if after.value is None or is_true(after, modulus):
        return False
    return before.value != after.value or before.result != after.result


def _is_spaced(text: str, token: Token) -> bool:
    return text[token.start - 1 : token.start].isspace() and text[token.end : token.end + 1].isspace()
