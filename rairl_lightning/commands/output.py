"""Where a command writes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from rairl_lightning.errors import ConfigError


@dataclass(frozen=True)
class OutputFolder:
    """A folder in which nothing of another run is replaced unless that is asked for, and then as late as possible.

    Attributes:
        path: ``--out``.
        files: names of all files the command writes, directly in ``path``.
        overwrite: replace those that are there already.
    """

    path: Path
    files: tuple[str, ...]
    overwrite: bool = False

    def prepare(self, *inputs: object, continues: bool = False) -> Path:
        """Make the folder with its parents; no file is touched.

        Args:
            inputs: paths, and the sources whose fields are paths, that the command reads; None is none.
            continues: files that are there are gone on with.

        Raises:
            ConfigError: there is an earlier result, an input would be overwritten, or a file is where the folder goes.
        """
        nearest = next(part for part in (self.path, *self.path.parents) if part.exists())
        if not nearest.is_dir():
            raise ConfigError("The output is a folder.", expected="--out FOLDER", got=f"{nearest}, which is a file")
        present = self._present()
        for path in _paths(inputs):
            if any(_same(path, file) for file in present) or (present and _same(path, self.path)):
                raise ConfigError(
                    "This would overwrite what it reads.",
                    expected="an --out apart from the input",
                    got=path,
                    remedy="give another --out",
                )
        if present and not (self.overwrite or continues):
            raise ConfigError(
                "This would overwrite an earlier result.",
                expected=f"a folder without {', '.join(self.files)}",
                got=", ".join(map(str, present)),
                remedy="give another --out, or add --overwrite true",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def clear(self, keep: Collection[str] = ()) -> None:
        """Remove the earlier result, if that was asked for; to be called once all that may be wrong was read.

        Args:
            keep: files that this run has written already.
        """
        if self.overwrite:
            for file in self._present():
                if file.name not in keep:
                    file.unlink()

    def _present(self) -> list[Path]:
        return [self.path / name for name in self.files if (self.path / name).exists()]


def _paths(value: object) -> Iterator[str | Path]:
    """All texts within: which of them are paths shows when a file of that name is there."""
    if isinstance(value, str | Path):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _paths(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _paths(getattr(value, field.name))


def _same(a: str | Path, b: str | Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one is not there, or a text that cannot be a path
        return False
