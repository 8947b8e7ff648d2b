"""Reading records from files and from the Hugging Face hub, each with the place it came from."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rairl_lightning.errors import DataError
from rairl_lightning.text.well_formed import well_formed

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Record:
    """One row of a data file.

    Attributes:
        where: ``file:line`` (JSON Lines, CSV) or ``file:row`` (JSON, Parquet, hub), counted from 1.
        values: the row's fields.
    """

    where: str
    values: dict[str, object]

    def text(self, *names: str) -> str:
        """The first field among ``names`` that is there, as non-empty text; whole and decimal numbers are written out.

        Raises:
            DataError: no such field (with the nearest name), the wrong type, or empty.
        """
        name = next((name for name in names if name in self.values), None)
        if name is None:
            near = get_close_matches(names[0], list(self.values), n=1)
            raise DataError(
                f"{self.where} has no field {' or '.join(map(repr, names))}.",
                expected=" or ".join(names),
                got=f"fields {', '.join(map(str, self.values)) or '(none)'}",
                remedy=f"did you mean {near[0]!r}? Rename it" if near else "rename the field or fix the file",
            )
        value = self.values[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{self.where} has no usable {name!r}.",
                expected="text that is not empty",
                got=repr(value)[:80],
                remedy="fill it in or remove the row",
            )
        return value.strip()

    def has(self, name: str) -> bool:
        """Whether the field is there and not empty (an empty CSV cell, ``null``)."""
        return self.values.get(name) not in (None, "")

    def sequence(self, name: str) -> list[object]:
        """A field that is a list, or JSON text of one (in CSV).

        Raises:
            DataError: it is anything else.
        """
        value = self.values.get(name)
        if isinstance(value, str):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if not isinstance(value, list | tuple) or not value:
            raise DataError(
                f"{self.where} has no usable {name!r}.",
                expected='a list that is not empty (in CSV: ["a", "b"])',
                got=repr(self.values.get(name))[:80],
            )
        return list(value)

    def texts(self, name: str) -> list[str]:
        """A list of texts, none of them empty.

        Raises:
            DataError: it is none.
        """
        items = self.sequence(name)
        return [
            Record(self.where, {f"{name}[{place}]": item}).text(f"{name}[{place}]") for place, item in enumerate(items)
        ]


def read_records(path: Path) -> list[Record]:
    """Read a ``.jsonl``, ``.jsonl.gz``, ``.json`` (a list), ``.parquet`` or ``.csv`` file.

    Raises:
        DataError: missing, unreadable, malformed (with ``file:line``) or empty file, or another suffix.
    """
    reader = next((reader for suffix, reader in READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise DataError(
            f"{path} is of an unknown kind.", expected=f"a name ending in {', '.join(READERS)}", got=path.name
        )
    if not path.is_file():
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*")], n=1)
        raise DataError(
            f"{path} is not there.",
            expected="a file",
            got="a folder" if path.is_dir() else "nothing at this path",
            remedy=f"did you mean {path.parent / near[0]}?" if near else "check the path",
        )
    try:
        records = list(reader(path))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read.", got=error, remedy="check its permissions, or fetch it again"
        ) from error
    if not records:
        raise DataError(f"{path} is empty.", expected="one record a row", got="0 rows")
    return records


def read_hub(repository: str, configuration: str, split: str) -> list[Record]:
    """Read one split of a data set on the Hugging Face hub; code in the repository is never run.

    Raises:
        DataError: ``datasets`` is not installed, or the data set cannot be fetched.
    """
    try:
        from datasets import load_dataset  # a slow import that local files do not need
    except ImportError as error:
        raise DataError(
            f"{repository} is no local folder, and the hub needs the package datasets.",
            got=error,
            remedy="pip install datasets, or give a local folder",
        ) from error
    try:
        rows = load_dataset(repository, configuration, split=split)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{repository} is neither a local folder nor a data set that could be fetched from the hub.",
            expected=f"a folder, or a hub id with configuration {configuration!r} and split {split!r}",
            got=f"{type(error).__name__}: {error}",
            remedy="check the path or id and the network, or download it once and give the folder",
        ) from error
    return [Record(f"{repository}/{split}:{number}", dict(row)) for number, row in enumerate(rows, start=1)]


def looks_like_hub_id(path: str) -> bool:
    """Whether ``path`` reads ``owner/name`` and nothing on this machine has that path.

    >>> looks_like_hub_id("openai/gsm8k"), looks_like_hub_id("./openai/gsm8k")
    (True, False)
    """
    return bool(_HUB_ID.fullmatch(path)) and not Path(path).exists()


def _parsed(text: str) -> Any:
    value = json.loads(text)
    if "\\ud" in text or "\\uD" in text:  # a surrogate; one without its other half no tokenizer and no file takes
        value = json.loads(well_formed(json.dumps(value, ensure_ascii=False)))
    return value


def _read_jsonl(path: Path) -> Iterator[Record]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                values = _parsed(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where} is not JSON.", got=error, remedy="one JSON object a line") from error
            if not isinstance(values, dict):
                raise DataError(f"{where} is not a record.", expected="a JSON object", got=type(values).__name__)
            yield Record(where, values)


def _read_json(path: Path) -> Iterator[Record]:
    try:
        rows = _parsed(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON.", got=error, remedy="one list of objects, or name it .jsonl") from error
    for number, values in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        if not isinstance(values, dict):
            raise DataError(f"{path}:{number} is not a record.", expected="JSON objects", got=type(values).__name__)
        yield Record(f"{path}:{number}", values)


def _read_csv(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, strict=True)
        try:
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if None in row or None in row.values():
                    expected = f"{len(rows.fieldnames or [])} cells, as in the header"
                    raise DataError(f"{where} has too many or too few cells.", expected=expected)
                yield Record(where, dict(row))
        except csv.Error as error:
            raise DataError(
                f"{path}:{rows.reader.line_num} is not CSV.", got=error, remedy="quote cells with line breaks"
            ) from error


def _read_parquet(path: Path) -> Iterator[Record]:
    from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped]  # a slow import that text files do not need

    try:
        rows = parquet.read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise DataError(f"{path} is not Parquet.", got=error, remedy="fetch it again") from error
    for number, row in enumerate(rows, start=1):
        yield Record(f"{path}:{number}", row)


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
"""Readers by the end of a file's name."""
