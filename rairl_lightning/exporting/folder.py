"""Where an export goes: written beside, checked, and only then put in its place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rairl_lightning.errors import ConfigError

RECORD, CARD = "rairl_export.json", "README.md"


@dataclass(frozen=True)
class Target:
    """A folder that holds nothing, or an earlier export that may be replaced.

    Attributes:
        path: ``--out``.
        overwrite: replace an earlier export.
    """

    path: Path
    overwrite: bool = False

    def check(self) -> None:
        """Refuse before anything is loaded.

        Raises:
            ConfigError: there is a file in its place, or there are files in it that no export wrote.
        """
        nearest = next(part for part in (self.path, *self.path.parents) if part.exists())
        if not nearest.is_dir():
            raise ConfigError("The output is a folder.", expected="--out FOLDER", got=f"{nearest}, which is a file")
        present = sorted(file.name for file in self.path.iterdir()) if self.path.is_dir() else []
        foreign = sorted(set(present) - self._earlier())
        if foreign:
            raise ConfigError(
                "There are files that no export wrote.",
                expected="an empty folder, or none",
                got=", ".join(foreign[:5]),
                remedy="give another --out",
            )
        if present and not self.overwrite:
            raise ConfigError(
                "This would overwrite an earlier export.",
                expected="an empty folder, or none",
                got=self.path,
                remedy="give another --out, or add --overwrite true",
            )

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write to, which takes the target's place at the end, and is gone after an error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent) as temporary:
            yield Path(temporary)
            for name in self._earlier():
                (self.path / name).unlink(missing_ok=True)
            self.path.mkdir(exist_ok=True)
            for file in Path(temporary).iterdir():
                shutil.move(file, self.path / file.name)

    def _earlier(self) -> set[str]:
        """Names of the files of an earlier export; only such as lie directly in the folder."""
        try:
            named = json.loads((self.path / RECORD).read_text(encoding="utf-8"))["files"]
            return {name for name in named if Path(name).name == name and (self.path / name).is_file()}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return set()
