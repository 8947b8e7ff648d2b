"""Prompts being continued, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rairl_lightning.models.decoding.decoder import LeanDecoder
from rairl_lightning.models.decoding.prefix_cache import Context, PrefixCache, Rows


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
        self.decoder = decoder
        self.lengths_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.width = int(self.lengths_P.max())
        ids = torch.tensor([[*prompt, *[pad_id] * (self.width - len(prompt))] for prompt in prompts], device=device)
        self.caches: list[PrefixCache] = []
        hidden = decoder.read(ids, lambda _, keys, values: self.caches.append(PrefixCache(keys, values)))
        last_PH = hidden[torch.arange(len(prompts), device=device), self.lengths_P - 1]
        self.logits = decoder.logits(last_PH).repeat_interleave(count, dim=0)
        self.rows = torch.arange(len(prompts) * count, device=device)
        self.positions_N = self.lengths_P.repeat_interleave(count)
        prompts_N = torch.arange(len(prompts), device=device).repeat_interleave(count)
        self.context = Context(Rows(prompts_N, len(prompts)), self.lengths_P, self.width)

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``, and the prompts that no row is left of."""
        self.rows, self.positions_N = self.rows[kept], self.positions_N[kept]
        left, prompts_N = self.context.rows.prompts_N[kept].unique_consecutive(return_inverse=True)
        prompts = left if len(left) < len(self.lengths_P) else None
        for cache in self.caches:
            cache.keep(kept, prompts)
        self.lengths_P, step = self.lengths_P[left], self.context.step
        self.context = Context(Rows(prompts_N, len(left)), self.lengths_P, self.width)
        self.context.step = step

    def append(self, tokens_N: Tensor) -> None:
        """Read one more token of every row."""
        hidden = self.decoder.hidden(
            tokens_N,
            self.positions_N,
            lambda layer, queries, keys, values: self.caches[layer].attend(queries, keys, values, self.context),
        )
        self.logits = self.decoder.logits(hidden)
        self.context.step += 1
        self.positions_N = self.positions_N + 1
