"""Which traces a page shows, of any number: the best and the worst, and those on which reward and answer disagree."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from rairl_lightning.reporting.files import Row

KINDS = {
    "best": "Highest rewards",
    "worst": "Lowest rewards",
    "flattered": "Wrong answers that are paid most",
    "slighted": "Right answers that are paid least",
}
MOST_TOKENS = 60_000
"""Tokens that a page shows at most, all traces together: about two megabytes."""


@dataclass(frozen=True)
class Shown:
    """One trace of the policy beside the expert's.

    Attributes:
        kind: of :data:`KINDS`.
        policy: its row.
        expert: the row of the expert's trace to the same question, if there is one.
    """

    kind: str
    policy: Row
    expert: Row | None = None


@dataclass
class Choice:
    """The traces to show, and how many there were.

    Attributes:
        shown: by kind.
        seen: traces of the policy that have a reward.
        omitted: chosen ones that the page has no room for.
    """

    shown: list[Shown] = field(default_factory=list)
    seen: int = 0
    omitted: int = 0


def is_right(row: Row) -> bool | None:
    """Whether the answer is right; None where nobody knows. Reads the callbacks' rows and those of ``rairl score``."""
    if row.get("correct") is not None:
        return bool(row["correct"])
    return {"right": True, "wrong": False, "unanswered": False}.get(str(row.get("grade")))


def choose(rows: Iterable[Row], experts: Iterable[Row], each: int, most_tokens: int = MOST_TOKENS) -> Choice:
    """Choose from a stream, holding no more than what may be shown.

    A trace is shown once, under the first of its kinds; one without tokens or reward is not.

    Args:
        rows: the policy's traces.
        experts: experts' traces; of a question the last counts.
        each: traces of a kind, >= 1.
        most_tokens: of all traces together.
    """
    heaps: dict[str, list[tuple[float, int, Row]]] = {kind: [] for kind in KINDS}
    order, choice = count(), Choice()
    for row in rows:
        value = row.get("reward")
        if isinstance(value, bool) or not isinstance(value, int | float) or not row.get("tokens"):
            continue
        choice.seen += 1
        for kind, key in _keys(float(value), is_right(row)):
            entry = (key, -next(order), row)  # the earlier of equals stays
            if len(heaps[kind]) < 4 * each:  # spare ones, for what is shown under another kind
                heapq.heappush(heaps[kind], entry)
            else:
                heapq.heappushpop(heaps[kind], entry)
    chosen = list(_unique(heaps, each))
    wanted = {str(row.get("id")) for _, row in chosen}
    partners = {str(row.get("id")): row for row in experts if str(row.get("id")) in wanted}
    choice.shown = [Shown(kind, row, partners.get(str(row.get("id")))) for kind, row in chosen]
    return _within(choice, most_tokens)


def interleaved(parts: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """The first of each, then the second of each.

    >>> list(interleaved(["ab", "c"]))
    ['a', 'c', 'b']
    """
    for place in range(max(map(len, parts), default=0)):
        yield from (part[place] for part in parts if place < len(part))


def _keys(reward: float, right: bool | None) -> Iterator[tuple[str, float]]:
    yield "best", reward
    yield "worst", -reward
    if right is False:
        yield "flattered", reward
    if right is True:
        yield "slighted", -reward


def _unique(heaps: dict[str, list[tuple[float, int, Row]]], each: int) -> Iterator[tuple[str, Row]]:
    seen: set[tuple[str, str]] = set()
    for kind, heap in heaps.items():
        taken = 0
        for _, _, row in sorted(heap, key=lambda entry: entry[:2], reverse=True):
            identity = (str(row.get("id")), str(row.get("completion")))
            if taken < each and identity not in seen:
                seen.add(identity)
                taken += 1
                yield kind, row


def _within(choice: Choice, most_tokens: int) -> Choice:
    """What fits, taking kinds in turn; a large trace does not keep a small one out."""
    kept: list[Shown] = []
    left = most_tokens
    by_kind = [[one for one in choice.shown if one.kind == kind] for kind in KINDS]
    for one in interleaved(by_kind):
        size = sum(len(row["tokens"]["offsets"]) for row in (one.policy, one.expert) if row and row.get("tokens"))
        if size <= left:
            left -= size
            kept.append(one)
    choice.omitted = len(choice.shown) - len(kept)
    choice.shown = [one for kind in by_kind for one in kind if one in kept]
    return choice
