"""Prompts being continued, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rairl_lightning.models.decoding.decoder import LeanDecoder


class Session:
    """The rows still being decoded; every prompt's keys and values are there once.

    Args:
        decoder: the weights.
        prompts: P templated prompts, at least one token each.
        count: rows of each.
        pad_id: any token.
        device: of the model.

    Attributes:
        logits: ``[N, V]`` float32, of each row's next token.
        rows: ``[N]`` numbers of the rows that are left.
    """

    def __init__(
        self, decoder: LeanDecoder, prompts: Sequence[Sequence[int]], count: int, pad_id: int, device: torch.device
    ) -> None:
        lengths_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int(lengths_P.max())
        ids = torch.tensor([[*prompt, *[pad_id] * (width - len(prompt))] for prompt in prompts], device=device)
        keys_values: list[tuple[Tensor, Tensor]] = []
        hidden = decoder.read(ids, lambda _, keys, values: keys_values.append((keys, values)))
        last_PH = hidden[torch.arange(len(prompts), device=device), lengths_P - 1]
        self.logits = decoder.logits(last_PH).repeat_interleave(count, dim=0)
        self.rows = torch.arange(len(prompts) * count, device=device)
        self.positions_N = lengths_P.repeat_interleave(count)
        prompts_N = torch.arange(len(prompts), device=device).repeat_interleave(count)
        self.past = decoder.past(keys_values, lengths_P, prompts_N)

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``, and the prompts that no row is left of."""
        self.rows, self.positions_N = self.rows[kept], self.positions_N[kept]
        self.past.keep(kept)

    def append(self, tokens_N: Tensor) -> None:
        """Read one more token of every row."""
        self.logits = self.past.read(tokens_N, self.positions_N)
        self.positions_N = self.positions_N + 1
