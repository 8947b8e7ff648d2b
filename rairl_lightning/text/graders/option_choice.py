"""Multiple choice: which option an answer names, and that it names only one."""

from dataclasses import dataclass

from rairl_lightning.text.answers import cleaned
from rairl_lightning.text.graders.base import Grade, Grader, Question
from rairl_lightning.text.graders.exact import Exact
from rairl_lightning.text.options import chosen_option


@dataclass(frozen=True)
class OptionChoice(Grader):
    """Right if the answer names the right option and no other: its letter, its text or both.

    An answer that names several options (``A, B, C and D``) is wrong, however right one of them is. A question without
    options is graded as by :class:`~rairl_lightning.text.graders.Exact`.

    >>> from rairl_lightning.types import Demonstration
    >>> question = Demonstration("q", "Which purrs?", "", "A", options=("cat", "dog"))
    >>> [OptionChoice()(answer, question).value for answer in ("A", "(A)", "A. cat", "Cat", "B", "A or B")]
    ['right', 'right', 'right', 'right', 'wrong', 'wrong']
    """

    def __call__(self, answer: str | None, question: Question) -> Grade:
        """See the class."""
        if answer is None or not answer.strip() or not question.options:
            return Exact()(answer, question)
        right = chosen_option(question.answer, question.options)
        if right is None:
            return Grade.UNKNOWN
        return Grade.RIGHT if chosen_option(answer, question.options) == right else Grade.WRONG

    def same(self, first: str, second: str, question: Question) -> bool:
        """Whether they name the same option, or neither names one and they read the same."""
        if not question.options:
            return Exact().same(first, second, question)
        letters = [chosen_option(answer, question.options) for answer in (first, second)]
        if letters == [None, None]:
            return cleaned(first).casefold() == cleaned(second).casefold()
        return letters[0] == letters[1]
