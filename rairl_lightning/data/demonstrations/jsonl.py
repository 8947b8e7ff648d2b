"""Your own demonstrations, from any file of questions, reasoning and answers."""

from dataclasses import dataclass, field
from pathlib import Path

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, demonstration_from, held_out
from rairl_lightning.data.demonstrations.questions import question_from
from rairl_lightning.data.demonstrations.records import Record, read_records
from rairl_lightning.errors import DataError
from rairl_lightning.text.graders import Grader, OptionChoice
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class JsonLines(DemonstrationSource):
    """Rows of ``prompt`` (or ``question`` or ``messages``), ``reasoning``, ``answer`` and, if you like, more.

    Only training rows need reasoning. ``messages`` is a chat with one user turn. ``options`` (texts, or letters with
    texts) are written into the prompt and make the answer a letter; ``id`` and ``category`` are kept for reports. Files
    may be .jsonl, .jsonl.gz, .parquet or .csv.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.JsonLines, init_args: {train: my_demonstrations.jsonl}}

    Attributes:
        train: path of the training file; None if there is only something to test on.
        selection: path of the selection file; None holds ``selection_fraction`` of the training questions out.
        test: path of the test file; None leaves the test split empty.
        selection_fraction: share of the training questions held out, in [0, 1); read if there is no selection file.
        train_limit: keep this many training demonstrations; None keeps all.
        selection_limit: likewise for selection.
        test_limit: likewise for test.
        meta: names of further text fields to keep for reports, or for the grader; a row may lack them.
        grader: how answers are graded; the default reads options where a question has some.
    """

    train: str | None = None
    selection: str | None = None
    test: str | None = None
    selection_fraction: float = 0.05
    train_limit: int | None = None
    selection_limit: int | None = None
    test_limit: int | None = None
    meta: tuple[str, ...] = ()
    grader: Grader = field(default=OptionChoice(), kw_only=True)

    def splits(self) -> Splits:
        """Read the files and hold the selection split out if it has no file."""
        train, selection, test = (
            tuple(self._read(path, split)) if path is not None else ()
            for path, split in ((self.train, "train"), (self.selection, "selection"), (self.test, "test"))
        )
        if train and self.selection is None:
            train, selection = held_out(train, self.selection_fraction)
        return Splits(train, selection, test).limited(self.train_limit, self.selection_limit, self.test_limit)

    def _read(self, path: str, split: str) -> list[Demonstration]:
        records = read_records(Path(path))
        return [self._demonstration(record, split, row) for row, record in enumerate(records)]

    def _demonstration(self, record: Record, split: str, row: int) -> Demonstration:
        question = question_from(record)
        if question.answer is None:
            record.text("answer")  # raises, with the nearest name
            raise DataError(f"{record.where} has no answer.", expected="answer, or answer_index with options")
        return demonstration_from(
            record,
            id=record.text("id") if "id" in record.values else f"{split}-{row}",
            prompt=question.prompt,
            reasoning=record.text("reasoning") if split == "train" or record.has("reasoning") else "",
            answer=question.answer,
            meta={name: str(record.values[name]) for name in ("category", *self.meta) if record.has(name)},
            options=question.options,
        )
