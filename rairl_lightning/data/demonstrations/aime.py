"""AIME: the American Invitational Mathematics Examination, 15 problems each; answers are 0 to 999."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, demonstration_from
from rairl_lightning.data.demonstrations.folder import split_file
from rairl_lightning.data.demonstrations.records import Record, read_hub, read_records
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.text.graders import Grader, Mathematics
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class AIME(DemonstrationSource):
    """AIME of 2024 and 2025, for evaluation only: there is no training and no selection split.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.AIME, init_args: {path: AIME_FOLDER, years: [2025]}}

    Attributes:
        path: a folder with ``aime_2024`` and ``aime_2025`` as .jsonl, .jsonl.gz, .parquet or .csv; None asks the hub.
        years: which years; any that the folder has.
        grader: how answers are graded.
    """

    path: str | None = None
    years: tuple[int, ...] = (2024, 2025)
    grader: Grader = field(default=Mathematics(), kw_only=True)

    HUB: ClassVar[Mapping[int, tuple[str, str]]] = MappingProxyType(
        {2024: ("HuggingFaceH4/aime_2024", "train"), 2025: ("math-ai/aime25", "test")}
    )
    """By year, its repository on the hub and the split that holds it."""

    def __post_init__(self) -> None:
        if not self.years or (self.path is None and not set(self.years) <= set(self.HUB)):
            raise ConfigError("AIME has no such years.", expected=f"some of {list(self.HUB)}", got=list(self.years))

    def splits(self) -> Splits:
        """All problems, as the test split."""
        return Splits((), (), tuple(demo for year in self.years for demo in self._read(year)))

    def _read(self, year: int) -> list[Demonstration]:
        if self.path is None:
            repository, split = self.HUB[year]
            records = read_hub(repository, "default", split)
        else:
            file = split_file(Path(self.path), (f"aime_{year}",), required=True)
            records = read_records(file) if file else []
        return [_problem(record, year, row) for row, record in enumerate(records)]


def _problem(record: Record, year: int, row: int) -> Demonstration:
    answer = record.text("answer").removesuffix(".0")
    if not (answer.isascii() and answer.isdigit() and int(answer) <= 999):
        raise DataError(f"{record.where} has no AIME answer.", expected="a whole number, 0 to 999", got=repr(answer))
    return demonstration_from(
        record,
        id=record.text("id") if str(record.values.get("id", "")).startswith("aime") else f"aime-{year}-{row}",
        prompt=record.text("problem", "question"),
        reasoning="",
        answer=str(int(answer)),
        meta={"category": f"AIME {year}"},
    )
