"""What every grader gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Grade(Enum):
    """What a grader found. An answer that nobody could compare is unknown, which is not wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It took too long, or could not be read."""
    UNANSWERED = "unanswered"
    """The trace states no answer, or several that differ."""


class Question(Protocol):
    """What a grader may know of a question; a demonstration is one."""

    @property
    def answer(self) -> str:
        """The right answer; of a multiple-choice question the letter of the right option."""

    @property
    def options(self) -> tuple[str, ...]:
        """Texts of the options A, B, C, …; empty where the answer is free."""

    @property
    def meta(self) -> Mapping[str, str]:
        """What else the data set knows."""


@dataclass(frozen=True)
class Grader(ABC):
    """Compares an extracted answer with the right one."""

    @abstractmethod
    def __call__(self, answer: str | None, question: Question) -> Grade:
        """Grade one answer; never raises for what a model wrote.

        Args:
            answer: as :func:`~rairl_lightning.text.answers.extract_answer` gave it; None is unanswered.
            question: with the right answer.
        """

    def same(self, first: str, second: str, question: Question) -> bool:
        """Whether two answers of one question are one and the same, for votes."""
        raise NotImplementedError
