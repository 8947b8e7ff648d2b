"""Run a per-trace function in micro-batches of bounded size, shared out over the processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.functional.processes import own, summed
from rairl_lightning.types import TokenBatch


def map_rows(
    function: Callable[[TokenBatch], Sequence[Tensor]], tokens: TokenBatch, max_tokens: int
) -> tuple[Tensor, ...]:
    """Apply ``function`` to groups of traces of similar length and put the results back in place.

    With several processes each does its part, and all get the whole: all must call it.

    Args:
        function: maps n traces to tensors ``[n, t, …]`` aligned on their tokens.
        tokens: N traces, padded on either side.
        max_tokens: padded tokens of a group (one trace is always allowed).

    Returns:
        The tensors ``[N, T, …]``, in the order of ``tokens``, 0 where a group had no column.
    """
    whole: list[Tensor] = []
    groups = token_budget_split(tokens.lengths_N, max_tokens)
    mine = own(groups)
    for rows in mine or groups[:1]:  # a process without a part must still know the results' shapes
        results = function(tokens.select(rows))
        if not whole:
            whole = [part.new_zeros(*tokens.input_ids.shape, *part.shape[2:]) for part in results]
        if not mine:
            break
        columns = tokens.attention_mask[rows].any(dim=0).nonzero().squeeze(1)
        for target, part in zip(whole, results, strict=True):
            target[rows[:, None].to(columns.device), columns[None, :]] = part
    return summed(*whole)
