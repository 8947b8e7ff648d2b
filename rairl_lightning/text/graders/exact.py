"""Answers that are compared as they are written: numbers exactly, anything else as text."""

from dataclasses import dataclass

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.graders.base import Grade, Grader, Question


@dataclass(frozen=True)
class Exact(Grader):
    r"""Right if :func:`~rairl_lightning.text.answers.answers_agree` says so: ``1,000``, ``$5``, ``5.0``, ``\boxed{5}``.

    >>> from rairl_lightning.types import Demonstration
    >>> question = Demonstration("q", "How much?", "", "1000")
    >>> Exact()("$1,000.00", question), Exact()("100", question), Exact()(None, question)
    (<Grade.RIGHT: 'right'>, <Grade.WRONG: 'wrong'>, <Grade.UNANSWERED: 'unanswered'>)
    """

    def __call__(self, answer: str | None, question: Question) -> Grade:
        """See the class."""
        if answer is None or not answer.strip():
            return Grade.UNANSWERED
        return Grade.RIGHT if answers_agree(answer, question.answer) else Grade.WRONG

    def same(self, first: str, second: str, question: Question) -> bool:
        """Whether they agree."""
        return answers_agree(first, second)
