"""The file that remembers which runs of the ablation are done: one JSON line a run, only ever appended to."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rairl_lightning.errors import ConfigError, DataError

Line = dict[str, Any]


def without_nan(value: Any) -> Any:
    """The value with null for what JSON has no number for: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, text: str) -> None:
    """Write under a temporary name and rename, so that a reader finds the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


class Ledger:
    """``runs.jsonl`` of an output folder.

    Args:
        folder: where the runs of the ablation lie; made when the ledger is locked.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.jsonl"

    def lines(self) -> list[Line]:
        """All lines in the order they were written, without a torn last one.

        Raises:
            DataError: a line that is not the last, or that was ended, is not a JSON object.
        """
        if not self.path.exists():
            return []
        *ended, tail = self.path.read_bytes().split(b"\n")
        lines = [self._whole(number, data) for number, data in enumerate(ended, 1) if data.strip()]
        torn = _parse(tail)
        return lines if torn is None else [*lines, torn]

    def finished(self) -> dict[str, Line]:
        """The runs that ended well, by key."""
        return {line["key"]: line for line in self.lines() if "error" not in line}

    def failed(self) -> dict[str, Line]:
        """The last failure of each run that never ended well, by key."""
        finished = self.finished()
        return {line["key"]: line for line in self.lines() if line["key"] not in finished}

    def append(self, line: Line) -> None:
        """Add one line and see it on the disk; only whoever holds :meth:`locked` may."""
        data = json.dumps(without_nan(line), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from writing for as long as this process lives, and mend what a killed one left.

        Raises:
            ConfigError: another process works in this folder.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    "Another ablation is writing into this folder.",
                    got=self.path.parent,
                    remedy="wait for it, stop it, or give another --out",
                ) from error
            self._mend()
            yield

    def _mend(self) -> None:
        """End the last line, or cut it off where it is torn: what is appended next must start a line of its own."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return
        with self.path.open("r+b") as file:
            if _parse(data[whole:]) is None:
                file.truncate(whole)
            else:
                file.seek(0, os.SEEK_END)
                file.write(b"\n")

    def _whole(self, number: int, data: bytes) -> Line:
        line = _parse(data)
        if line is None:
            raise DataError(
                f"Line {number} of {self.path} is damaged.",
                expected="a JSON object with a key",
                got=data[:80],
                remedy="delete the line; its run will be repeated",
            )
        return line


def _parse(data: bytes) -> Line | None:
    try:
        line = json.loads(data)
    except ValueError:  # no JSON, or cut inside a character
        return None
    return line if isinstance(line, dict) and "key" in line else None
