"""What files of traces give."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from rairl_lightning.text.graders import Grade
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class SampledQuestion:
    """A question with N >= 1 completions of one or more models, graded.

    Attributes:
        question: prompt, right answer, options, and ``meta["category"]`` where there is one; reasoning may be empty.
        completions: N texts in the layout of :mod:`rairl_lightning.text.chat`.
        answers: N extracted answers; None where a text states none, or several.
        grades: N grades.
        classes: N numbers, equal where answers agree; -1 without an answer.
        records: N rows as they were read, for the output; of a row with N texts one for each, with its ``completion``.
        rows: N numbers of these rows, from 1: of a line or a row, as in ``file:line``; empty where nobody knows.
        finished: N times whether the model ended its turn itself; None where unknown. Empty if it is of none.
    """

    question: Demonstration
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]
    grades: tuple[Grade, ...]
    classes: tuple[int, ...]
    records: tuple[dict[str, object], ...] = ()
    rows: tuple[int, ...] = ()
    finished: tuple[bool | None, ...] = ()


@dataclass(frozen=True)
class TraceSource(ABC):
    """Questions with sampled traces; one frozen dataclass a format, named in YAML or on the command line."""

    @abstractmethod
    def questions(self) -> Iterator[SampledQuestion]:
        """Read, check and grade, in the order of the file.

        Raises:
            DataError: anything in the data that cannot be used, with its file and line.
        """


@dataclass(frozen=True)
class LabelledSteps:
    """A solution whose first wrong step somebody marked.

    Attributes:
        id: unique within its file.
        prompt: the question.
        steps: K >= 1 texts, as the source splits them.
        label: first wrong step, 0 <= label < K; -1 where no step is wrong.
        answer: the answer the solution states; None where it cannot be told.
        meta: what to report by (subset, generator, provenance, …).
    """

    id: str
    prompt: str
    steps: tuple[str, ...]
    label: int
    answer: str | None = None
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSource(ABC):
    """Process-labelled solutions; one frozen dataclass a format."""

    @abstractmethod
    def solutions(self) -> list[LabelledSteps]:
        """Read and check.

        Raises:
            DataError: anything in the data that cannot be used, with its file and line.
        """
