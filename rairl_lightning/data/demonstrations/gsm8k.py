"""GSM8K: grade-school word problems with human solutions (Cobbe et al. 2021, arXiv 2110.14168)."""

import re
from dataclasses import dataclass
from pathlib import Path

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, demonstration_from, held_out
from rairl_lightning.data.demonstrations.records import READERS, Record, looks_like_hub_id, read_hub, read_records
from rairl_lightning.errors import DataError
from rairl_lightning.types import Demonstration

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")
_FINAL_LINE = re.compile(r"####\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class GSM8K(DemonstrationSource):
    """GSM8K as published: one step a line, calculator marks removed, commas removed from the answer.

    Attributes:
        path: a folder with ``train`` and ``test`` as .jsonl, .jsonl.gz, .parquet or .csv, or a hub id.
        selection_fraction: share of the training questions held out for selection, in [0, 1).
        train_limit: keep this many training demonstrations; None keeps all.
        selection_limit: likewise for selection.
        test_limit: likewise for test.
    """

    path: str = "openai/gsm8k"
    selection_fraction: float = 0.05
    train_limit: int | None = None
    selection_limit: int | None = None
    test_limit: int | None = None

    def splits(self) -> Splits:
        """Read ``train`` and ``test``, and hold the selection split out of ``train``."""
        train, selection = held_out(self._read("train"), self.selection_fraction)
        splits = Splits(train, selection, tuple(self._read("test")))
        return splits.limited(self.train_limit, self.selection_limit, self.test_limit)

    def _read(self, split: str) -> list[Demonstration]:
        if looks_like_hub_id(self.path):
            records = read_hub(self.path, "main", split)
        else:
            records = read_records(_split_file(Path(self.path), split))
        return [_demonstration(record, f"gsm8k-{split}-{row}") for row, record in enumerate(records)]


def _split_file(folder: Path, split: str) -> Path:
    """The one file of a split: ``train.jsonl``, or ``train-00000-of-00001.parquet`` as on the hub."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder.", expected="a folder with train and test, or a hub id such as openai/gsm8k"
        )
    named = {f"{split}{suffix}" for suffix in READERS}
    found = sorted(file for file in folder.iterdir() if file.name in named or file.match(f"{split}-*.parquet"))
    if len(found) != 1:
        raise DataError(
            f"{folder} must have one file for {split!r}.",
            expected=f"one of {', '.join(sorted(named))}",
            got=", ".join(file.name for file in found) or "none",
        )
    return found[0]


def _demonstration(record: Record, id: str) -> Demonstration:
    question, solution = record.text("question"), record.text("answer")
    *lines, last = solution.splitlines()
    final = _FINAL_LINE.fullmatch(last.strip())
    if final is None:
        raise DataError(
            f"{record.where} has no final answer.",
            expected="a last line '#### number'",
            got=repr(last[:80]),
            remedy="fix or remove the row",
        )
    steps = [_CALCULATOR_MARK.sub("", line).strip() for line in lines]
    reasoning = "\n".join(step for step in steps if step)
    if not reasoning:
        raise DataError(f"{record.where} has no reasoning.", expected="steps before the last line", got=repr(last[:80]))
    return demonstration_from(record, id=id, prompt=question, reasoning=reasoning, answer=final[1].replace(",", ""))
