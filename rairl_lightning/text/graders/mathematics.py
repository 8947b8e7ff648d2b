"""Mathematics: math-verify, in a process with a time limit that holds."""

import math
from dataclasses import dataclass

from rairl_lightning.errors import ConfigError
from rairl_lightning.text.answers import answers_agree, cleaned, parse_quantity
from rairl_lightning.text.graders.base import Grade, Grader, Question
from rairl_lightning.text.graders.mathematics_process import MATHEMATICS

MAX_LENGTH = 1024
"""Characters beyond which an answer is not read as mathematics."""


@dataclass(frozen=True)
class Mathematics(Grader):
    r"""Right if math-verify takes the answer for equal: ``\frac{1}{2}`` and ``0.5``, ``(x+1)^2`` and ``x^2+2x+1``.

    What :func:`~rairl_lightning.text.answers.answers_agree` can decide, such as two numbers, never leaves this process.
    An answer that takes longer than the time limit, or is too long to be read, is unknown, not wrong. An answer that is
    several (``$5$ or $6$``) is wrong.

    >>> from rairl_lightning.types import Demonstration
    >>> question = Demonstration("q", "How much?", "", "1/2")
    >>> [Mathematics()(answer, question).value for answer in ("0.5", "0.6", "$0.5$ or $0.6$")]
    ['right', 'wrong', 'wrong']
    """

    seconds: float = 5.0
    """Time limit of one comparison, > 0."""

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ConfigError("The time limit cannot be kept.", expected="seconds > 0, finite", got=self.seconds)

    def __call__(self, answer: str | None, question: Question) -> Grade:
        """See the class."""
        if answer is None or not answer.strip():
            return Grade.UNANSWERED
        equal = self._equal(question.answer, answer)
        return {True: Grade.RIGHT, False: Grade.WRONG, None: Grade.UNKNOWN}[equal]

    def same(self, first: str, second: str, question: Question) -> bool:
        """Whether they are equal, as far as can be told within the time limit."""
        return bool(self._equal(first, second))

    def _equal(self, gold: str, answer: str) -> bool | None:
        if answers_agree(gold, answer):
            return True
        gold, answer = cleaned(gold), cleaned(answer)
        if max(len(gold), len(answer)) > MAX_LENGTH:
            return None
        if parse_quantity(gold) and parse_quantity(answer):
            return False
        if not _is_one(gold):
            return None
        return MATHEMATICS.equal(gold, answer, self.seconds) if _is_one(answer) else False


def _is_one(text: str) -> bool:
    """Whether a text is a single expression: braces in pairs, and no further box or formula in it."""
    depth = 0
    for character in text.replace(r"\{", "").replace(r"\}", ""):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and r"\boxed" not in text and "$" not in text
