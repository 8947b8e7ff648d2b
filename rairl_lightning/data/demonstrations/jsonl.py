"""Your own demonstrations, from any file of questions, reasoning and answers."""

from dataclasses import dataclass
from pathlib import Path

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, demonstration_from, held_out
from rairl_lightning.data.demonstrations.records import Record, read_records
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class JsonLines(DemonstrationSource):
    """Rows of ``prompt`` (or ``question``), ``reasoning``, ``answer`` and, if you like, ``id``.

    Only training rows need reasoning. Files may be .jsonl, .jsonl.gz, .parquet or .csv.

    Attributes:
        train: path of the training file.
        selection: path of the selection file; None holds ``selection_fraction`` of the training questions out.
        test: path of the test file; None leaves the test split empty.
        selection_fraction: share of the training questions held out, in [0, 1); read if there is no selection file.
        train_limit: keep this many training demonstrations; None keeps all.
        selection_limit: likewise for selection.
        test_limit: likewise for test.
        meta: names of further text fields to keep for reports; a row may lack them.
    """

    train: str
    selection: str | None = None
    test: str | None = None
    selection_fraction: float = 0.05
    train_limit: int | None = None
    selection_limit: int | None = None
    test_limit: int | None = None
    meta: tuple[str, ...] = ()

    def splits(self) -> Splits:
        """Read the files and hold the selection split out if it has no file."""
        train = tuple(self._read(self.train, "train"))
        if self.selection is None:
            train, selection = held_out(train, self.selection_fraction)
        else:
            selection = tuple(self._read(self.selection, "selection"))
        test = tuple(self._read(self.test, "test")) if self.test is not None else ()
        return Splits(train, selection, test).limited(self.train_limit, self.selection_limit, self.test_limit)

    def _read(self, path: str, split: str) -> list[Demonstration]:
        records = read_records(Path(path))
        return [self._demonstration(record, split, row) for row, record in enumerate(records)]

    def _demonstration(self, record: Record, split: str, row: int) -> Demonstration:
        has_reasoning = bool(record.values.get("reasoning"))
        return demonstration_from(
            record,
            id=record.text("id") if "id" in record.values else f"{split}-{row}",
            prompt=record.text("prompt", "question"),
            reasoning=record.text("reasoning") if split == "train" or has_reasoning else "",
            answer=record.text("answer"),
            meta={name: str(record.values[name]) for name in self.meta if name in record.values},
        )
