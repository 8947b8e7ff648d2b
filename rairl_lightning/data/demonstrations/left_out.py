"""Rows that are left out: counted, with the reason, and reported."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from rairl_lightning.errors import DataError

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class LeftOut:
    """A row that cannot be used for a reason that a good file may have, and so is counted, not refused.

    Attributes:
        where: ``file:line``.
        reason: why, as in "3 rows are left out: ``reason``".
    """

    where: str
    reason: str


def kept(rows: Iterable[Kept | LeftOut], origin: str) -> list[Kept]:
    """The rows that are not left out; warns how many are, and why.

    Args:
        rows: as read.
        origin: what they are rows of, for the warning.

    Raises:
        DataError: all rows are left out.
    """
    good: list[Kept] = []
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row, LeftOut):
            reasons.setdefault(row.reason, []).append(row.where)
        else:
            good.append(row)
    if not reasons:
        return good
    told = "; ".join(f"{len(places)}: {reason} (first: {places[0]})" for reason, places in reasons.items())
    count = sum(map(len, reasons.values()))
    if not good:
        raise DataError(f"No row of {origin} can be used.", expected="at least 1", got=told)
    warnings.warn(f"{count} of {count + len(good)} rows of {origin} are left out: {told}.", stacklevel=2)
    return good
