"""Which traces are behind a number that is not finite, in words for whoever reads the log."""

from __future__ import annotations

from torch import Tensor

from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.visible import visible
from rairl_lightning.types import TokenBatch

NAMED, SHOWN = 3, 60
"""Traces that are named, and characters of each that are shown."""


def all_finite(values_NT: Tensor, tokens: TokenBatch) -> bool:
    """Whether the values of completion tokens are; others say nothing."""
    return bool((values_NT.isfinite() | ~tokens.completion_mask).all())


def culprits(what: str, values_NT: Tensor, tokens: TokenBatch, codec: TraceCodec) -> str:
    """The traces with a value that is not finite, and their first such value.

    Args:
        what: the values are, in the singular.
        values_NT: ``[N, T]``, read on completion tokens.
        tokens: N traces.
        codec: of the tokens.
    """
    bad_NT = ~values_NT.isfinite() & tokens.completion_mask
    rows = bad_NT.any(dim=1).nonzero().flatten().tolist()
    if not rows:
        return f"the {what} of every token of the {len(tokens)} traces is finite"
    named = [_named(row, values_NT[row], bad_NT[row], tokens, codec) for row in rows[:NAMED]]
    return f"the {what} is not finite in {len(rows)} of {len(tokens)} traces: {'; '.join(named)}"


def _named(row: int, values_T: Tensor, bad_T: Tensor, tokens: TokenBatch, codec: TraceCodec) -> str:
    completion_T = tokens.completion_mask[row]
    first = int(bad_T.nonzero()[0])
    text = codec.decode(tokens.input_ids[row, completion_T].tolist())
    token = int(completion_T[:first].sum())
    return f'trace {row}, {float(values_T[first])} at its token {token}: "{visible(text[:SHOWN])}"'
