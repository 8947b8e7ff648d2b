"""A file of lines that an interrupted run continues, if it was written from the same input in the same way."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rairl_lightning.errors import CheckpointError, DataError
from rairl_lightning.evaluation.summary import json_line, write_summary

CHUNK = 1 << 20
NOTE = {"lines": int, "bytes": int, "notes": dict, "made_by": dict, "input": str, "output": str}


class ResumableLines:
    """JSON lines beside a ``.meta.json`` that says how far they go, out of what, and made how.

    After every :meth:`write` the lines are on the disk before the note of them is, so whatever stops the process, what
    the note vouches for is whole; the rest is cut off.

    Args:
        file: to write.
        made_by: plain values that decide every line (reward, settings, input).

    Raises:
        CheckpointError: the file is there and was made otherwise, or was changed since.
    """

    def __init__(self, file: Path, made_by: Mapping[str, Any]) -> None:
        self.file, self.meta = file, file.with_name(f"{file.stem}.meta.json")
        self._made_by = json.loads(json.dumps(made_by))
        self._input, self._output = hashlib.sha256(), hashlib.sha256()
        note = self._note()
        self.lines: int = note.get("lines", 0)
        self.notes: dict[str, Any] = note.get("notes", {})
        self._inputs_then: str | None = note.get("input")
        self._stream = file.open("r+b" if note else "wb")
        if note:
            self._rewind(note)
        else:
            self._save_note()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def skip(self, inputs: Iterable[str]) -> None:
        """Go past the inputs of the lines that are there.

        Raises:
            DataError: they are not what those lines were made from.
        """
        count = 0
        for count, text in enumerate(inputs, start=1):  # noqa: B007
            self._seen(text)
        if count < self.lines:
            raise DataError(
                "The input ends before the lines already written do.",
                expected=f"at least {self.lines} traces",
                got=count,
                remedy="raise --limit, give another --out, or start anew with --overwrite true",
            )
        if self._inputs_then is not None and self._input.hexdigest() != self._inputs_then:
            raise DataError(
                "The input is not the one that the lines already written were made from.",
                expected=f"{self.lines} traces with hash {self._inputs_then[:16]}",
                got=f"{count} with hash {self._input.hexdigest()[:16]}",
                remedy="give another --out, or start anew with --overwrite true",
            )

    def write(self, inputs: Iterable[str], records: Iterable[Mapping[str, Any]], notes: Mapping[str, Any]) -> None:
        """Append lines.

        Args:
            inputs: what identifies each of the inputs.
            records: a line each.
            notes: plain values that :attr:`notes` gives back after an interruption.
        """
        rows = [json_line(record) for record in records]
        self._append("".join(f"{row}\n" for row in rows).encode("utf-8", errors="backslashreplace"))
        for text in inputs:
            self._seen(text)
        self.lines += len(rows)
        self.notes = dict(notes)
        self._save_note()

    def _save_note(self) -> None:
        state = {"lines": self.lines, "bytes": self._stream.tell(), "notes": self.notes, "made_by": self._made_by}
        write_summary(self.meta, {**state, "input": self._input.hexdigest(), "output": self._output.hexdigest()})

    def _append(self, raw: bytes) -> None:
        self._stream.write(raw)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._output.update(raw)

    def _seen(self, text: str) -> None:
        raw = text.encode("utf-8", errors="backslashreplace")
        self._input.update(f"{len(raw)}:".encode())  # so that no two lists of texts look alike
        self._input.update(raw)

    def _note(self) -> dict[str, Any]:
        """What is known of the file; nothing if it is not there."""
        if not self.file.exists():
            return {}
        try:
            note = json.loads(self.meta.read_text(encoding="utf-8"))
            if wrong := [key for key, kind in NOTE.items() if type(note[key]) is not kind]:
                raise TypeError(f"{', '.join(wrong)} of another type")
            if min(note["lines"], note["bytes"]) < 0:
                raise ValueError("a number below 0")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if not self.file.stat().st_size:
                return {}
            raise self._other(f"no readable {self.meta.name} beside it", str(error)) from error
        made_by = note["made_by"]
        changed = sorted(key for key in {*made_by, *self._made_by} if made_by.get(key) != self._made_by.get(key))
        if changed:
            then, now = ({key: one.get(key) for key in changed} for one in (made_by, self._made_by))
            raise self._other(then, now)
        return dict(note)

    def _rewind(self, note: Mapping[str, Any]) -> None:
        """Stand behind the last line that is vouched for, and cut off the rest."""
        remaining = note["bytes"]
        while remaining and (chunk := self._stream.read(min(CHUNK, remaining))):
            self._output.update(chunk)
            remaining -= len(chunk)
        if remaining or self._output.hexdigest() != note["output"]:
            self._stream.close()
            raise self._other(f"the {note['lines']} lines that were written", "a file that was changed since")
        self._stream.seek(note["bytes"])
        self._stream.truncate()

    def _other(self, expected: object, got: object) -> CheckpointError:
        return CheckpointError(
            f"{self.file} cannot be continued: it was not made as it would be now.",
            expected=expected,
            got=got,
            remedy="give another --out, or start anew with --overwrite true",
        )
