"""Countdown: make a target from given numbers with + - * /, each number used exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import demonstration_from
from rairl_lightning.data.demonstrations.folder import FolderSource
from rairl_lightning.data.demonstrations.left_out import LeftOut, kept
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import DataError
from rairl_lightning.text.chat import TAG
from rairl_lightning.text.graders import CountdownExpression, Grade, Grader
from rairl_lightning.text.graders.countdown import puzzle
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class Countdown(FolderSource):
    """Countdown from a folder with ``train``, ``test`` and, if you like, ``eval`` or ``selection``.

    A row has ``nums`` (or ``numbers``), ``target``, ``answer`` (an expression) and, for training, ``reasoning``. The
    prompt is written here, the same for all. Left out, counted and reported: answers that do not make the target of
    their numbers, reasoning with tags in it, and training or selection puzzles that are tested, in whatever order
    their numbers come.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.Countdown, init_args: {path: COUNTDOWN_FOLDER}}
    """

    grader: Grader = field(default=CountdownExpression(), kw_only=True)

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"train": ("train",), "selection": ("eval", "selection"), "test": ("test",)}
    )

    def parts(self) -> dict[str, list[Demonstration]]:
        """No puzzle in two of them: a later split keeps it."""
        parts = super().parts()
        seen = {puzzle_key(demo) for demo in parts["test"]}
        for split in ("selection", "train"):
            rows = [_unless(puzzle_key(demo) in seen, demo) for demo in parts[split]]
            parts[split] = kept(rows, f"{self.path}, {split}")
            seen |= {puzzle_key(demo) for demo in parts[split]}
        return parts

    def demonstration(self, record: Record, split: str, row: int) -> Demonstration | LeftOut:
        """See the class."""
        numbers, target = _numbers(record), record.text("target")
        answer = record.text("answer") if record.has("answer") else ""
        meta = {"numbers": " ".join(map(str, numbers)), "target": target}
        question = Demonstration("", countdown_prompt(numbers, target), "", answer, meta)
        if CountdownExpression()(answer, question) is not Grade.RIGHT:
            return LeftOut(record.where, "the answer does not make the target of the numbers")
        reasoning = record.text("reasoning") if split == "train" or record.has("reasoning") else ""
        if TAG.search(reasoning):
            return LeftOut(record.where, "a tag in the reasoning, where the language model took more than one turn")
        return demonstration_from(
            record,
            id=record.text("id") if record.has("id") else f"countdown-{split}-{row}",
            prompt=question.prompt,
            reasoning=reasoning,
            answer=answer,
            meta=meta,
        )


def countdown_prompt(numbers: Sequence[int], target: int | str) -> str:
    """The puzzle in words.

    >>> countdown_prompt([41, 82, 24], 99)
    'Using the numbers [41, 82, 24], create an expression that equals 99. Use + - * / and each number exactly once.'
    """
    return (
        f"Using the numbers [{', '.join(map(str, numbers))}], create an expression that equals {target}. "
        "Use + - * / and each number exactly once."
    )


def puzzle_key(demonstration: Demonstration) -> tuple[tuple[int, ...], Fraction]:
    """What makes two puzzles the same: numbers in any order, and the target."""
    numbers, target = puzzle(demonstration.meta)
    return tuple(sorted(numbers)), target


def _unless(leaks: bool, demonstration: Demonstration) -> Demonstration | LeftOut:
    return LeftOut(demonstration.id, "a later split has the same puzzle") if leaks else demonstration


def _numbers(record: Record) -> list[int]:
    name = next(filter(record.has, ("nums", "numbers")), "nums")
    numbers = record.sequence(name)
    if not all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers):
        raise DataError(f"{record.where} has no usable {name!r}.", expected="whole numbers above 0", got=numbers)
    return [number for number in numbers if isinstance(number, int)]
