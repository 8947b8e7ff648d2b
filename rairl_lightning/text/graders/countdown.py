"""Countdown: an expression that makes the target from the given numbers."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from rairl_lightning.errors import DataError
from rairl_lightning.text.answers import cleaned
from rairl_lightning.text.expressions import MAX_LENGTH, evaluate, evaluate_tokens, tokenise
from rairl_lightning.text.graders.base import Grade, Grader, Question

_INTEGER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class CountdownExpression(Grader):
    """Right if the expression's value is the target and it uses every given number exactly once.

    The numbers and the target are read from the question's ``meta["numbers"]`` and ``meta["target"]``. The expression
    is parsed, never run; ``= target`` may follow it, or a chain of equalities, all of them true.

    >>> from rairl_lightning.types import Demonstration
    >>> question = Demonstration("q", "Make 99.", "", "82 + 41 - 24", {"numbers": "41 82 24", "target": "99"})
    >>> [CountdownExpression()(x, question).value for x in ("(82 - 24) + 41 = 99", "99", "41 + 82 - 24 = 98")]
    ['right', 'wrong', 'wrong']
    """

    def __call__(self, answer: str | None, question: Question) -> Grade:
        """Grade one expression.

        Args:
            answer: as for every grader.
            question: with ``meta["numbers"]``, whole numbers with anything between them, and ``meta["target"]``.

        Raises:
            DataError: the question does not say its numbers and its target.
        """
        numbers, target = puzzle(question.meta)
        if answer is None or not answer.strip():
            return Grade.UNANSWERED
        read = _read(answer)
        return Grade.RIGHT if read == (target, Counter(map(Fraction, numbers))) else Grade.WRONG

    def same(self, first: str, second: str, question: Question) -> bool:
        """Whether both have the same value from the same numbers, so that both are right or neither is."""
        read = _read(first)
        return cleaned(first) == cleaned(second) if read is None else read == _read(second)


def puzzle(meta: Mapping[str, str]) -> tuple[list[int], Fraction]:
    """Numbers and target of a question.

    >>> puzzle({"numbers": "[41, 82, 24]", "target": "99"})
    ([41, 82, 24], Fraction(99, 1))

    Raises:
        DataError: there are none.
    """
    found = _INTEGER.findall(meta.get("numbers", ""))
    numbers = [int(number) for number in found if len(number) <= MAX_LENGTH]
    target = evaluate(meta.get("target", ""))
    if not numbers or len(numbers) < len(found) or target is None:
        raise DataError(
            "A Countdown question does not say what to make from which numbers.",
            expected='meta "numbers" (41 82 24) and "target" (99)',
            got=repr(dict(meta))[:200],
            remedy="name these fields in the source's meta, or choose another grader",
        )
    return numbers, target


def _read(answer: str) -> tuple[Fraction, Counter[Fraction]] | None:
    """Value and numbers of an expression; None if it is none, or is said to equal something else."""
    left, *further = cleaned(answer).split("=") if len(answer) <= 2 * MAX_LENGTH else ("",)
    tokens = tokenise(left)
    value = evaluate_tokens(tokens)
    odd = any(token.kind in ("money", "percent") for token in tokens)
    if value is None or odd or any(evaluate(right) != value for right in further):
        return None
    return value, Counter(Fraction(token.text.replace(",", "")) for token in tokens if token.kind == "number")
