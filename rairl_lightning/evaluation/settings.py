"""A configuration as lines of dotted keys, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ABSENT = "–"


class Difference(NamedTuple):
    """One key whose value is not the same; :data:`ABSENT` where a configuration lacks it."""

    key: str
    own: str
    other: str


def flattened(config: Mapping[str, Any]) -> dict[str, str]:
    """Values by dotted key, as text. A class goes by the last part of its path, and stands for its ``init_args``.

    >>> flattened({"model": {"class_path": "rairl_lightning.module.RAIRL", "init_args": {"rounds": 12}}})
    {'model': 'RAIRL', 'model.rounds': '12'}
    """
    return dict(_lines("", config))


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Where two configurations differ, in the order of the first.

    >>> differences({"seed": 0, "data": {"size": 8}}, {"seed": 1, "data": {"size": 8}, "path": "x"})
    [Difference(key='seed', own='0', other='1'), Difference(key='path', own='–', other='x')]
    """
    first, second = flattened(own), flattened(other)
    rows = (Difference(key, first.get(key, ABSENT), second.get(key, ABSENT)) for key in {**first, **second})
    return [row for row in rows if row.own != row.other]


def _lines(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and "class_path" in value:
        yield prefix, str(value["class_path"]).rpartition(".")[2]
        yield from _lines(prefix, value.get("init_args") or {})
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _lines(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            named = isinstance(item, Mapping) and "class_path" in item
            name = str(item["class_path"]).rpartition(".")[2] if named else str(value.index(item))
            yield from _lines(f"{prefix}.{name}", item)
    else:
        yield prefix, "null" if value is None else str(value)
