"""What readers of trace files share: several files, and rows chosen by what their fields say."""

import json
from collections.abc import Mapping
from pathlib import Path

from rairl_lightning.data.demonstrations.records import Record, read_records
from rairl_lightning.errors import DataError


def read_where(path: str, where: Mapping[str, str]) -> list[Record]:
    """The rows of a file whose fields have the given values, compared as text.

    Args:
        path: .jsonl, .jsonl.gz, .parquet or .csv.
        where: field to value, what is no text as JSON (``true``, ``5``); empty keeps every row.

    Raises:
        DataError: the file cannot be read, a field is in no row, or no row has the values.
    """
    records = read_records(Path(path))
    for name, value in where.items():
        seen = {as_text(record.values[name]) for record in records if name in record.values}
        records = [record for record in records if name in record.values and as_text(record.values[name]) == value]
        if not records:
            raise DataError(
                f"{path} has no row where {name} is {value!r}.",
                expected=", ".join(sorted(seen)[:8]) if seen else "a field that the file has",
                got=f"where: {dict(where)}",
            )
    return records


def as_text(value: object) -> str:
    """A field's value as text: what is no text, as JSON.

    >>> as_text("gsm8k"), as_text(True), as_text(None), as_text([1, 2])
    ('gsm8k', 'true', 'null', '[1, 2]')
    """
    return value if isinstance(value, str) else json.dumps(value, default=str)


def text_meta(record: Record, names: tuple[str, ...]) -> dict[str, str]:
    """The given fields as text, where they are there."""
    return {name: as_text(record.values[name]) for name in names if record.has(name)}
