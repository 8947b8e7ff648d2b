"""A trace as tokens for a template: the text of each, the bin of its reward, and the marks on it."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from rairl_lightning.text.steps import step_spans

BINS = 4
"""Shades on either side of zero."""

Span = tuple[int, int]


class Token(NamedTuple):
    """One token of a page; ``style`` is empty for text between tokens, which has no values."""

    text: str
    style: str


@dataclass(frozen=True)
class Marked:
    """A text with values, ready for the template.

    Attributes:
        tokens: whose texts joined are the text.
        rewards: JSON list, an entry a token that has a style.
        logprobs: likewise.
        steps: likewise, numbers from 1; 0 outside of every step.
    """

    tokens: list[Token]
    rewards: str
    logprobs: str
    steps: str


def shade(value: float | None, scale: float) -> str:
    """The class of a reward's colour: ``l4`` … ``l1``, ``z``, ``h1`` … ``h4``.

    Args:
        value: reward; None where there is none.
        scale: size at which the colours are full, > 0.

    >>> shade(0.9, 1.0), shade(-0.3, 1.0), shade(0.01, 1.0), shade(None, 1.0)
    ('h4', 'l2', 'z', 'n')
    """
    if value is None or not math.isfinite(value):
        return "n"
    share = min(1.0, abs(value) / scale)
    step = math.ceil(share * BINS - 1e-9) if share >= 0.04 else 0
    return f"{'h' if value > 0 else 'l'}{step}" if step else "z"


def marked(text: str, tokens: dict[str, Any], scale: float, marks: dict[str, Span | None] | None = None) -> Marked:
    """Lay out a trace.

    Args:
        text: completion.
        tokens: as :mod:`~rairl_lightning.evaluation.run_folder` says; lists that it lacks are empty.
        scale: as for :func:`shade`.
        marks: classes for the tokens that touch these characters.

    Raises:
        TypeError, ValueError, LookupError: the lists have another form.
    """
    offsets = [(int(start), int(end)) for start, end in tokens["offsets"]]
    rewards, grid, logprobs = (list(tokens.get(name) or ()) for name in ("reward", "grid", "logprob"))
    found, steps = step_spans(text), []
    starts = [start for start, _ in found]
    out: list[Token] = []
    at = 0
    for place, (start, end) in enumerate(offsets):
        if start > at:
            out.append(Token(text[at:start], ""))
        classes = [shade(rewards[place] if rewards else None, scale)]
        classes += ["g"] if grid and grid[place] else []
        classes += [name for name, span in (marks or {}).items() if span is not None and _touches((start, end), span)]
        piece = text[max(at, start) : end]
        out.append(Token(piece or ("¶" if place == len(offsets) - 1 else "·"), " ".join(classes)))
        number = bisect_right(starts, start)
        steps.append(number if number and start < found[number - 1][1] else 0)
        at = max(at, end)
    out += [Token(text[at:], "")] if at < len(text) else []
    return Marked(out, *(json.dumps([_short(one) for one in column]) for column in (rewards, logprobs, steps)))


def pieces(text: str, spans: Sequence[Span | None]) -> dict[str, Any]:
    """``tokens`` without values: the text cut at the ends of spans, for traces whose tokens nobody wrote.

    >>> pieces("2 + 2 = 5", [(8, 9), None])["offsets"]
    [(0, 8), (8, 9)]
    """
    cuts = sorted({0, len(text), *(min(max(0, edge), len(text)) for span in spans if span for edge in span)})
    return {"offsets": list(pairwise(cuts))}


def _touches(token: Span, span: Span) -> bool:
    return (token[0] < span[1] and span[0] < token[1]) or token == tuple(span)


def _short(value: float | int | None) -> float | int | None:
    return value if value is None or isinstance(value, int) else round(float(value), 3)
