"""Perturbed demonstrations to show: as many that the reward finds as that it misses, where there are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from rairl_lightning.reporting.files import Row
from rairl_lightning.reporting.traces import interleaved


def choose_pairs(rows: Iterable[Row], most: int) -> tuple[list[Row], int]:
    """Found and missed ones in turn, of different kinds of perturbation first.

    Args:
        rows: of ``localisation.jsonl``, or ``corrupted.jsonl`` of ``rairl localise``.
        most: pairs to choose, >= 0.

    Returns:
        The pairs, and how many there were.
    """
    groups: dict[tuple[bool, str], list[Row]] = {}
    seen = 0
    for row in rows:
        seen += 1
        group = groups.setdefault((is_found(row), str(row.get("kind"))), [])
        if len(group) < most:
            group.append(row)
    found, missed = ([group for (hit, _), group in groups.items() if hit is wanted] for wanted in (True, False))
    both = interleaved([list(interleaved(found)), list(interleaved(missed))])
    return list(islice(both, most)), seen


def is_found(row: Row) -> bool:
    """Whether the largest drop of the reward, or without one of the log-probability, lies in the changed step."""
    hit = row.get("hit")
    own = hit.get("reward", hit.get("logprob_drop")) if isinstance(hit, dict) else None
    return bool(own.get("step", own.get("token"))) if isinstance(own, dict) else False
