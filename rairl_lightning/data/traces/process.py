"""Solutions whose first wrong step somebody marked: ProcessBench, PRM800K, MR-GSM8K."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rairl_lightning.data.demonstrations.left_out import LeftOut, kept
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.data.traces.base import LabelledSteps, StepSource
from rairl_lightning.data.traces.files import read_where, text_meta
from rairl_lightning.errors import DataError
from rairl_lightning.text.statements import final_statement

_STEPS = ("steps", "model_output_steps")
"""Fields that may hold the texts of the steps."""


@dataclass(frozen=True)
class StepFile(StepSource):
    """A row a solution; .jsonl, .jsonl.gz, .parquet or .csv.

    Attributes:
        path: the file.
        where: keep only rows with these values, by field: ``{subset: gsm8k}``.
    """

    path: str
    where: dict[str, str] = field(default_factory=dict)

    META: ClassVar[tuple[str, ...]] = ()
    """Fields to report by."""

    def solutions(self) -> list[LabelledSteps]:
        """Read and check; says how many rows are left out, and why.

        Raises:
            DataError: a row that cannot be used.
        """
        rows = (
            _without_text(record) or self.solution(record, row)
            for row, record in enumerate(read_where(self.path, self.where))
        )
        return kept(rows, self.path)

    @abstractmethod
    def solution(self, record: Record, row: int) -> LabelledSteps | LeftOut:
        """Turn one record into a solution.

        Args:
            record: one row.
            row: its number, from 0.

        Raises:
            DataError: the row is wrong.
        """

    def labelled(self, record: Record, row: int, prompt: str, steps: Sequence[str], label: int) -> LabelledSteps:
        """A solution, once its label is known to be a step of it.

        Raises:
            DataError: it is none.
        """
        if not -1 <= label < len(steps):
            raise DataError(
                f"{record.where} has a label that is none of its steps.",
                expected=f"-1 for no wrong step, or 0 to {len(steps) - 1}",
                got=label,
                remedy="labels count from 0; a file that counts from 1 needs a source of its own",
            )
        stated = final_statement("\n".join(steps))
        return LabelledSteps(
            id=next((record.text(name) for name in ("id", "uuid") if record.has(name)), f"row-{row}"),
            prompt=prompt,
            steps=tuple(steps),
            label=label,
            answer=stated.answer if stated else None,
            meta=text_meta(record, self.META),
        )


@dataclass(frozen=True)
class ProcessSteps(StepFile):
    """ProcessBench (Zheng et al. 2024, arXiv 2412.06559) and all of its form: ``steps`` and ``label``, counted from 0.

    A row has ``question`` (or ``problem``), ``steps`` (texts) and ``label``, the first wrong step, -1 for none.

    .. code-block:: yaml

        steps:
          class_path: rairl_lightning.data.traces.ProcessSteps
          init_args: {path: processbench_gsm8k.jsonl, where: {generator: Qwen2-7B-Instruct}}
    """

    META: ClassVar[tuple[str, ...]] = (
        "subset", "generator", "provenance", "source", "error_type", "pair_id", "final_answer_correct",
    )  # fmt: skip

    def solution(self, record: Record, row: int) -> LabelledSteps:
        """See the class."""
        prompt = record.text("question", "problem", "prompt")
        return self.labelled(record, row, prompt, record.texts("steps"), _integer(record, "label"))


@dataclass(frozen=True)
class PRM800K(StepFile):
    """PRM800K (Lightman et al. 2023, arXiv 2305.20050), raw or flat: the first step rated -1 is the first wrong one.

    A raw row has ``question`` and ``label`` as published: of each step the chosen completion, a human's if there is
    none, else the first. A flat row has ``question`` (or ``problem``), ``steps`` and ``ratings`` (-1, 0 or 1). A
    solution ends after its first wrong step, where the ratings end. Left out, counted and reported: solutions that the
    labeller gave up on, and those with an unrated step.

    .. code-block:: yaml

        steps: {class_path: rairl_lightning.data.traces.PRM800K, init_args: {path: phase2_test.jsonl}}
    """

    META: ClassVar[tuple[str, ...]] = ("generation", "subset")

    def solution(self, record: Record, row: int) -> LabelledSteps | LeftOut:
        """See the class."""
        label = record.values.get("label")
        if isinstance(label, Mapping) and label.get("finish_reason") in ("give_up", "bad_problem"):
            return LeftOut(record.where, "the labeller gave up")
        steps, ratings = _raw(record, label) if isinstance(label, Mapping) else _flat(record)
        first = ratings.index(-1) if -1 in ratings else None
        rated = ratings[: first + 1 if first is not None else None]
        if None in rated:
            return LeftOut(record.where, "a step is not rated")
        if any(one not in (-1, 0, 1) for one in rated):
            raise DataError(f"{record.where} has an unknown rating.", expected="-1, 0 or 1", got=rated)
        prompt = _nested(record, "question").text("problem") if label else record.text("question", "problem")
        return self.labelled(record, row, prompt, steps[: len(rated)], -1 if first is None else first)


@dataclass(frozen=True)
class MRGSM8K(StepFile):
    """MR-GSM8K as published (Zeng et al. 2023, arXiv 2312.17080): steps counted from 1.

    A row has ``question``, ``model_output_steps``, ``model_output_solution_correctness`` (correct or wrong) and
    ``model_output_solution_first_error_step``, a number, or ``N/A`` for a correct solution.

    .. code-block:: yaml

        steps: {class_path: rairl_lightning.data.traces.MRGSM8K, init_args: {path: MR-GSM8K.json}}
    """

    META: ClassVar[tuple[str, ...]] = ("question_type", "model_output_answer_correctness")

    def solution(self, record: Record, row: int) -> LabelledSteps:
        """See the class."""
        verdict = record.text("model_output_solution_correctness").casefold()
        name = "model_output_solution_first_error_step"
        is_none = str(record.values.get(name)).strip().casefold() in ("n/a", "na", "none", "")
        if verdict not in ("correct", "wrong") or (verdict == "correct") != is_none:
            raise DataError(
                f"{record.where} contradicts itself.",
                expected=f"correct with {name} N/A, or wrong with a step",
                got=f"{verdict} with {record.values.get(name)!r}",
            )
        steps = record.texts("model_output_steps")
        number = 0 if is_none else _integer(record, name)
        if not is_none and number < 1:
            raise DataError(f"{record.where} has no usable {name!r}.", expected=f"1 to {len(steps)}", got=number)
        return self.labelled(record, row, record.text("question"), steps, number - 1)


def _without_text(record: Record) -> LeftOut | None:
    """A row with no steps, or with a step that says nothing: nobody can say which of its steps is wrong."""
    steps = next(
        (record.sequence(name) for name in _STEPS if record.values.get(name) not in (None, "", [], "[]")), None
    )
    if steps is None:
        empty = any(record.values.get(name) in ([], "[]") for name in _STEPS)
        return LeftOut(record.where, "it has no steps") if empty else None
    blank = any(isinstance(step, str) and not step.strip() for step in steps)
    return LeftOut(record.where, "a step has no text") if blank else None


def _integer(record: Record, name: str) -> int:
    text = record.text(name)
    try:
        return int(text.removesuffix(".0"))
    except ValueError as error:
        raise DataError(f"{record.where} has no usable {name!r}.", expected="a whole number", got=repr(text)) from error


def _nested(record: Record, name: str) -> Record:
    value = record.values.get(name)
    if not isinstance(value, Mapping):
        raise DataError(f"{record.where} has no usable {name!r}.", expected="an object", got=repr(value)[:80])
    return Record(f"{record.where} ({name})", dict(value))


def _flat(record: Record) -> tuple[list[str], list[object]]:
    steps, ratings = record.texts("steps"), record.sequence("ratings")
    if len(steps) != len(ratings):
        raise DataError(
            f"{record.where} has steps without a rating.", expected=f"{len(steps)} ratings", got=len(ratings)
        )
    return steps, ratings


def _raw(record: Record, label: Mapping[str, object]) -> tuple[list[str], list[object]]:
    """The path that the labeller took: a text and a rating a step."""
    steps: list[str] = []
    ratings: list[object] = []
    for step in Record(f"{record.where} (label)", dict(label)).sequence("steps"):
        taken = _taken(Record(f"{record.where} (step {len(steps)})", dict(step) if isinstance(step, Mapping) else {}))
        steps.append(taken.text("text"))
        ratings.append(taken.values.get("rating"))
    return steps, ratings


def _taken(step: Record) -> Record:
    """A step's chosen completion; else the one that a human wrote, which counts as right; else the first."""
    written, chosen = step.values.get("human_completion"), step.values.get("chosen_completion")
    if chosen is None and isinstance(written, Mapping):
        return Record(step.where, {**written, "rating": 1 if written.get("rating") is None else written["rating"]})
    completions = step.sequence("completions")
    place = chosen if isinstance(chosen, int) else 0
    completion = completions[place] if 0 <= place < len(completions) else None
    if not isinstance(completion, Mapping):
        raise DataError(f"{step.where} has no chosen completion.", expected="an index of completions", got=chosen)
    return Record(step.where, dict(completion))
