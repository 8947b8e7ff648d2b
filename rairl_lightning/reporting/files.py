"""Files of a run's folder as plain values; one that is missing or broken is a note, not an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

Row = dict[str, Any]
T = TypeVar("T")


@dataclass
class Notes:
    """What the page lacks, one sentence each.

    >>> notes = Notes()
    >>> notes.attempt("the table", lambda: {}["hit@1"])
    >>> notes.lines
    ["Left out the table: KeyError 'hit@1'."]
    """

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Say it once."""
        if line not in self.lines:
            self.lines.append(line)

    def attempt(self, what: str, build: Callable[[], T]) -> T | None:
        """What ``build`` gives; None and a note where the file has another form than it expects."""
        try:
            return build()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.add(f"Left out {what}: {type(error).__name__} {error}.")
            return None


def read_mapping(path: Path, notes: Notes) -> Row:
    """A JSON or YAML file that holds a mapping; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        value = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        notes.add(f"{path.name} cannot be read: {str(error).splitlines()[0]}.")
        return {}
    if isinstance(value, dict):
        return value
    notes.add(f"{path.name} cannot be read: expected a mapping, got {type(value).__name__}.")
    return {}


def read_rows(path: Path, notes: Notes) -> Iterator[Row]:
    """The JSON lines of a file, one at a time; lines that are none are counted."""
    if not path.is_file():
        return
    broken = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (RecursionError, ValueError):
                row = None
            if isinstance(row, dict):
                yield row
            else:
                broken += bool(line.strip())
    if broken:
        notes.add(f"{path.name}: {broken} lines are not JSON objects and were skipped.")
