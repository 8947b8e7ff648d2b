"""Expert traces made wrong at a known place: checked negatives, and free labels for localisation."""

import random
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.equations import Equation, find_equations, find_quantities
from rairl_lightning.text.expressions import OPERATORS, Token

_LARGEST_DIGIT_CHANGE = 3


@dataclass(frozen=True)
class Corruption:
    """A trace with one known error.

    Attributes:
        reasoning: the corrupted reasoning.
        answer: the corrupted, or unchanged, answer.
        span: ``(start, end)`` of the changed characters, and no others, in ``render_completion(reasoning, answer)``.
        kind: class name of the perturbation.
    """

    reasoning: str
    answer: str
    span: tuple[int, int]
    kind: str


@dataclass(frozen=True)
class Perturbation(ABC):
    """Corrupts a trace, or rejects it. A variant only writes :meth:`rewrite`; the check and the span are shared."""

    def __call__(self, reasoning: str, answer: str, rng: random.Random) -> Corruption | None:
        """Corrupt one trace.

        Args:
            reasoning: the expert's reasoning, without tags.
            answer: the expert's answer.
            rng: the only source of randomness.

        Returns:
            The corruption, or None if the perturbation does not apply or changed nothing.
        """
        rewritten = self.rewrite(reasoning, answer, rng)
        if rewritten is None:
            return None
        before, after = render_completion(reasoning, answer), render_completion(*rewritten)
        if before == after:
            return None
        return Corruption(*rewritten, changed_span(before, after), type(self).__name__)

    @abstractmethod
    def rewrite(self, reasoning: str, answer: str, rng: random.Random) -> tuple[str, str] | None:
        """New reasoning and answer, or None if this trace offers no place for the error."""


def changed_span(before: str, after: str) -> tuple[int, int]:
    """Characters of ``after`` between the longest common beginning and end; the next one after a pure deletion.

    >>> changed_span("3 + 4 = 7", "3 + 4 = 17"), changed_span("3 + 4", "3 * 4")
    ((8, 9), (2, 3))
    """
    shorter = min(len(before), len(after))
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)
    return start, max(len(after) - tail, start + 1)


@dataclass(frozen=True)
class OperatorFlip(Perturbation):
    """Swap an operator of an equation so that another value comes out; the result stays as written and is now wrong.

    Only operators of an ``expression = number`` are touched, never bullets, hyphens, ranges or dates: where the
    equation does not hold as it stands (other arithmetic, say modulo 10), white space must set them off. The new
    operator is written as the trace writes it elsewhere (``x``, ``×``, ``*``), so that style does not give it away.

    >>> OperatorFlip()("She sells 3 - 2 = 1 egg.", "1", random.Random(0)).reasoning
    'She sells 3 * 2 = 1 egg.'
    """

    def rewrite(self, reasoning: str, answer: str, rng: random.Random) -> tuple[str, str] | None:
        """See the class."""
        equations = find_equations(reasoning)
        written = {"+": "+", "-": "-", "*": "*", "/": "/"}
        written |= {OPERATORS[token.text]: token.text for equation in equations for token in equation.operators}
        flips = [
            (token, symbol)
            for equation in equations
            for token in equation.operators
            if equation.holds or _is_spaced(reasoning, token)
            for meaning, symbol in written.items()
            if meaning != OPERATORS[token.text] and _made_wrong(equation, equation.replaced(token, symbol))
        ]
        if not flips:
            return None
        token, symbol = rng.choice(flips)
        return _spliced(reasoning, token, symbol), answer


@dataclass(frozen=True)
class NumberCorruption(Perturbation):
    """Change one digit of one number of the reasoning by 1 to 3; the number keeps its length and its notation.

    Labels (``1.``, ``Step 2``) and numbers inside words (``B12``, ``5th``) are left alone. A number of an equation is
    changed only if that makes the equation wrong.

    >>> NumberCorruption()("She sells 3 - 2 = 1 egg.", "1", random.Random(0)).reasoning
    'She sells 2 - 2 = 1 egg.'
    """

    def rewrite(self, reasoning: str, answer: str, rng: random.Random) -> tuple[str, str] | None:
        """See the class."""
        equations = find_equations(reasoning)
        numbers = find_quantities(reasoning)
        rng.shuffle(numbers)
        for token in numbers:
            changed = _near_number(token.text, rng)
            touched = [equation for equation in equations if token in equation.left or token == equation.result]
            if not touched or any(_made_wrong(equation, equation.replaced(token, changed)) for equation in touched):
                return _spliced(reasoning, token, changed), answer
        return None


@dataclass(frozen=True)
class NudgedAnswer(Perturbation):
    """Change the final answer only, so that it no longer follows from the reasoning, which is kept.

    A number in the answer moves by one digit; a lone option letter becomes another one (of the first four, or up to
    itself if it comes later). Other answers are rejected, and so is a change after which the answers still agree.

    >>> NudgedAnswer()("She sells 3 - 2 = 1 egg.", "1", random.Random(1)).answer
    '3'
    """

    def rewrite(self, reasoning: str, answer: str, rng: random.Random) -> tuple[str, str] | None:
        """See the class."""
        nudged = self._nudged(answer.strip(), rng)
        return None if nudged is None or answers_agree(answer, nudged) else (reasoning, nudged)

    def _nudged(self, answer: str, rng: random.Random) -> str | None:
        if len(answer) == 1 and answer in string.ascii_uppercase:
            last = max(answer, "D")
            return rng.choice([letter for letter in string.ascii_uppercase if letter <= last and letter != answer])
        numbers = find_quantities(answer)
        if not numbers:
            return None
        token = rng.choice(numbers)
        return _spliced(answer, token, _near_number(token.text, rng))


class Solution(Protocol):
    """Anything with reasoning and an answer, such as a demonstration."""

    @property
    def reasoning(self) -> str:
        """The chain of thought, without tags."""

    @property
    def answer(self) -> str:
        """The final answer."""


class Attempt(NamedTuple):
    """Outcome of :func:`corrupt`: the corruption, if any, and the kinds that were tried before it and rejected."""

    corruption: Corruption | None
    rejected: tuple[str, ...]


def corrupt(solution: Solution, perturbations: Sequence[Perturbation], rng: random.Random) -> Attempt:
    """Corrupt a solution with the first perturbation, in random order, that applies.

    Args:
        solution: reasoning and answer.
        perturbations: the kinds to try.
        rng: the only source of randomness; the same state gives the same corruption.

    Returns:
        ``(corruption | None, rejected kinds)``; count the second to report how often each kind does not apply.
    """
    rejected: list[str] = []
    for perturbation in rng.sample(list(perturbations), len(perturbations)):
        corruption = perturbation(solution.reasoning, solution.answer, rng)
        if corruption is not None:
            return Attempt(corruption, tuple(rejected))
        rejected.append(type(perturbation).__name__)
    return Attempt(None, tuple(rejected))


def _made_wrong(before: Equation, after: Equation) -> bool:
    """Whether the equation says something else that is false; a division by zero would be too easy to spot."""
    if after.value is None or after.holds:
        return False
    return before.value != after.value or before.result != after.result


def _is_spaced(text: str, token: Token) -> bool:
    return text[token.start - 1 : token.start].isspace() and text[token.end : token.end + 1].isspace()


def _spliced(text: str, token: Token, new: str) -> str:
    return text[: token.start] + new + text[token.end :]


def _near_number(text: str, rng: random.Random) -> str:
    """Another number of the same length: one digit moved by 1 to 3, the first of several never to 0."""
    place = rng.choice([i for i, character in enumerate(text) if character.isdigit()])
    old = int(text[place])
    lowest = 1 if place == 0 and len(text) > 1 else 0
    near = range(max(lowest, old - _LARGEST_DIGIT_CHANGE), min(9, old + _LARGEST_DIGIT_CHANGE) + 1)
    return text[:place] + str(rng.choice([digit for digit in near if digit != old])) + text[place + 1 :]
