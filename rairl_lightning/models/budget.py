"""Micro-batches of bounded size, and a per-trace function run in them, shared out over the processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rairl_lightning.functional.batching import prompt_budget_split, token_budget_split
from rairl_lightning.functional.processes import idle, own, summed
from rairl_lightning.models.packed_reading import packs
from rairl_lightning.models.packing import same_prompts
from rairl_lightning.types import TokenBatch


def micro_batches(decoder: nn.Module, tokens: TokenBatch, max_tokens: int) -> list[Tensor]:
    """Rows of each micro-batch, by the tokens that the decoder reads.

    Args:
        decoder: if it reads packed rows, a prompt counts once and padding never; else padded tokens count.
        tokens: N traces, padded on either side.
        max_tokens: of a micro-batch (one trace is always allowed).
    """
    if not packs(decoder):
        return token_budget_split(tokens.lengths_N, max_tokens)
    prompts_N, lengths_N, prompt_lengths_N = (
        torch.tensor(column, dtype=torch.int64, device=tokens.device) for column in same_prompts(tokens)
    )
    return prompt_budget_split(lengths_N, prompt_lengths_N, prompts_N, max_tokens)


def map_rows(
    function: Callable[[TokenBatch], Sequence[Tensor]], tokens: TokenBatch, groups: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Apply ``function`` to groups of traces and put the results back in place.

    With several processes each does its part, and all get the whole: all must call it.

    Args:
        function: maps n traces to tensors ``[n, t, …]`` aligned on their tokens.
        tokens: N traces, padded on either side.
        groups: row indices of each group, every row once: :func:`micro_batches`.

    Returns:
        The tensors ``[N, T, …]``, in the order of ``tokens``, 0 where a group had no column.
    """
    whole: list[Tensor] = []
    mine = own(groups)
    for number, rows in enumerate([*mine, *idle(groups)]):
        results = function(tokens.select(rows))
        if not whole:  # a process without a part of its own learns the results' shapes from an idle pass
            whole = [part.new_zeros(*tokens.input_ids.shape, *part.shape[2:]) for part in results]
        if number >= len(mine):
            continue
        columns = tokens.attention_mask[rows].any(dim=0).nonzero().squeeze(1)
        for target, part in zip(whole, results, strict=True):
            target[rows[:, None].to(columns.device), columns[None, :]] = part
    return summed(*whole)
