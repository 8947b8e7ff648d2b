"""Data sets that are a folder with one file a split, or the same on the hub."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, held_out
from rairl_lightning.data.demonstrations.left_out import LeftOut, kept
from rairl_lightning.data.demonstrations.records import READERS, Record, looks_like_hub_id, read_hub, read_records
from rairl_lightning.errors import DataError
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class FolderSource(DemonstrationSource):
    """Reads ``train`` and ``test`` and, if the folder has no selection file, holds that split out of ``train``.

    Attributes:
        path: a folder with one file a split, as .jsonl, .jsonl.gz, .parquet or .csv, or a hub id.
        selection_fraction: share of the training questions held out for selection, in [0, 1).
        train_limit: keep this many training demonstrations; None keeps all.
        selection_limit: likewise for selection.
        test_limit: likewise for test.
    """

    path: str = ""
    selection_fraction: float = 0.05
    train_limit: int | None = None
    selection_limit: int | None = None
    test_limit: int | None = None

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"train": ("train",), "test": ("test",)})
    """By split, how its file may be called; a split without a name is not read."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("train", "test")
    """Splits without which the folder is refused."""

    CONFIGURATION: ClassVar[str] = "default"
    """Configuration on the hub."""

    HUB_SPLITS: ClassVar[Mapping[str, str]] = MappingProxyType({"train": "train", "test": "test"})
    """By split, its name on the hub."""

    @abstractmethod
    def demonstration(self, record: Record, split: str, row: int) -> Demonstration | LeftOut:
        """Turn one record into a demonstration.

        Args:
            record: one row.
            split: train, selection or test; only training rows need reasoning.
            row: its number in the split, from 0.

        Raises:
            DataError: the row is wrong.
        """

    def splits(self) -> Splits:
        """Read the files, and hold the selection split out if it has none."""
        parts = self.parts()
        train, selection = tuple(parts["train"]), tuple(parts["selection"])
        if not selection:
            train, selection = held_out(train, self.selection_fraction)
        splits = Splits(train, selection, tuple(parts["test"]))
        return splits.limited(self.train_limit, self.selection_limit, self.test_limit)

    def parts(self) -> dict[str, list[Demonstration]]:
        """What each split's file or hub split holds; empty without one."""
        return {split: self._read(split) for split in ("train", "selection", "test")}

    def _read(self, split: str) -> list[Demonstration]:
        records = self._records(split)
        rows = (self.demonstration(record, split, row) for row, record in enumerate(records))
        return kept(rows, f"{self.path}, {split}")

    def _records(self, split: str) -> list[Record]:
        if looks_like_hub_id(self.path):
            name = self.HUB_SPLITS.get(split)
            return read_hub(self.path, self.CONFIGURATION, name) if name else []
        file = split_file(Path(self.path), self.NAMES.get(split, ()), required=split in self.REQUIRED)
        return read_records(file) if file else []


def split_file(folder: Path, names: tuple[str, ...], *, required: bool) -> Path | None:
    """The one file of a split: ``train.jsonl``, or ``train-00000-of-00001.parquet`` as on the hub.

    Args:
        folder: where it lies.
        names: what it may be called, without suffix.
        required: whether its absence is an error.

    Raises:
        DataError: no folder, more than one file, or none where one is required.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder.", expected="a folder with train and test, or a hub id such as openai/gsm8k"
        )
    named = {f"{name}{suffix}" for name in names for suffix in READERS}
    shards = [f"{name}-*.parquet" for name in names]
    found = sorted(file for file in folder.iterdir() if file.name in named or any(map(file.match, shards)))
    if len(found) > 1 or (required and not found):
        raise DataError(
            f"{folder} must have one file for {' or '.join(map(repr, names))}.",
            expected=f"one of {', '.join(sorted(named))}",
            got=", ".join(file.name for file in found) or "none",
        )
    return found[0] if found else None
