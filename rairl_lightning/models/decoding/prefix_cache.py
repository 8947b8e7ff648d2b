"""Keys and values of prompts, once for all samples of a prompt, and of what each row has written since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from rairl_lightning.models.kernels.threads import few_threads

BLOCK = 64

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, queries ``[N, heads, size]`` with the scale of the scores, keys and values ``[N, kv heads, size]`` to
``[N, heads · size]``."""
KeysValues = Sequence[tuple[Tensor, Tensor]]
"""Of each layer, ``[P, kv heads, T, size]`` twice."""


class Past(Protocol):
    """What the rows have read so far, and how they read on."""

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``, and the prompts that no row is left of."""

    def read(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """Read one more token of every row; logits ``[N, V]`` float32 of the next."""


class Rows:
    """Which prompt each row continues, and where it lies when the rows of a prompt are put side by side.

    Args:
        prompts_N: ``[N]`` int64, prompt of each row, ascending.
        prompts: how many there are.
    """

    def __init__(self, prompts_N: Tensor, prompts: int) -> None:
        self.prompts_N, self.count = prompts_N, prompts
        counts_P = torch.bincount(prompts_N, minlength=prompts)
        self.room = int(counts_P.max())
        first_P = counts_P.cumsum(0) - counts_P
        place_N = torch.arange(len(prompts_N), device=prompts_N.device) - first_P[prompts_N]
        self.slots_N = prompts_N * self.room + place_N
        self.even = len(prompts_N) == prompts * self.room

    def gathered(self, values_NF: Tensor) -> Tensor:
        """``[N, …]`` to ``[P, room, …]``, 0 where a prompt has fewer rows."""
        if not self.even:
            whole = values_NF.new_zeros(self.count * self.room, *values_NF.shape[1:])
            values_NF = whole.index_copy_(0, self.slots_N, values_NF)
        return values_NF.unflatten(0, (self.count, self.room))

    def scattered(self, values_PS: Tensor) -> Tensor:
        """The inverse of :meth:`gathered`."""
        values = values_PS.flatten(0, 1)
        return values if self.even else values.index_select(0, self.slots_N)


class PrefixCache:
    """Keys and values of one layer.

    Args:
        keys_PKTD: ``[P, kv heads, T, size]`` of the prompts, padded on the right.
        values_PKTD: likewise.
    """

    def __init__(self, keys_PKTD: Tensor, values_PKTD: Tensor) -> None:
        self.keys, self.values = keys_PKTD, values_PKTD
        self.own: tuple[Tensor, Tensor] | None = None

    def append(self, keys_NKD: Tensor, values_NKD: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Write the tokens of this step and return all own keys and values, ``[N · kv heads, step + 1, size]``."""
        if self.own is None or self.own[0].shape[2] == step:
            self.own = tuple(self._grown(which, new) for which, new in enumerate((keys_NKD, values_NKD)))  # type: ignore[assignment]
        assert self.own is not None
        for room, new in zip(self.own, (keys_NKD, values_NKD), strict=True):
            room.select(2, step).copy_(new)
        return self.own[0].flatten(0, 1).narrow(1, 0, step + 1), self.own[1].flatten(0, 1).narrow(1, 0, step + 1)

    def _grown(self, which: int, new_NKD: Tensor) -> Tensor:
        rows, heads, size = new_NKD.shape
        before = self.own[which] if self.own is not None else new_NKD.new_empty(rows, heads, 0, size)
        return torch.cat([before, new_NKD.new_empty(rows, heads, BLOCK, size)], dim=2)

    def keep(self, rows: Tensor, prompts: Tensor | None) -> None:
        """Drop all rows and prompts but these; None keeps all prompts."""
        if self.own is not None:
            self.own = self.own[0].index_select(0, rows), self.own[1].index_select(0, rows)
        if prompts is not None:
            self.keys, self.values = self.keys.index_select(0, prompts), self.values.index_select(0, prompts)

    def attend(self, query_NHD: Tensor, keys_NKD: Tensor, values_NKD: Tensor, context: Context) -> Tensor:
        """Attention of one new token a row over its prompt and its own tokens, this one included.

        ``softmax([q·K_prompt | q·K_own]) [V_prompt; V_own]``; the prompt's keys are read once for all its rows.

        Args:
            query_NHD: ``[N, heads, size]``, rotated and scaled.
            keys_NKD: ``[N, kv heads, size]``, rotated.
            values_NKD: likewise.
            context: where rows, prompts and padding are.

        Returns:
            ``[N, heads · size]``.
        """
        with few_threads(2 * query_NHD.numel() * (context.step + self.keys.shape[2])):
            return self._attend(query_NHD, *self.append(keys_NKD, values_NKD, context.step), context)

    def _attend(self, query_NHD: Tensor, own_keys: Tensor, own_values: Tensor, context: Context) -> Tensor:
        prompts, groups, width, size = self.keys.shape
        query_NKRD = query_NHD.unflatten(1, (groups, -1))
        # [P, kv heads, S · R, D]: all rows of a prompt read its keys together.
        together = context.rows.gathered(query_NKRD).transpose(1, 2)
        shape = together.shape[:4]
        scores = torch.bmm(together.reshape(prompts * groups, -1, size), self.keys.flatten(0, 1).transpose(1, 2))
        if context.bias_P11T is not None:
            scores.view(prompts, groups, -1, width).add_(context.bias_P11T)
        own = torch.bmm(query_NKRD.flatten(0, 1), own_keys.transpose(1, 2)).unflatten(0, (-1, groups))
        own = context.rows.gathered(own).transpose(1, 2)
        weights = torch.cat([scores.view(*shape, width), own], dim=-1).softmax(dim=-1, dtype=torch.float32)
        of_prompt, of_own = weights.to(query_NHD.dtype).split([width, context.step + 1], dim=-1)
        found = torch.bmm(of_prompt.flatten(0, 1).flatten(1, 2), self.values.flatten(0, 1)).view(*shape, size)
        of_own = context.rows.scattered(of_own.transpose(1, 2)).flatten(0, 1)
        found = context.rows.scattered(found.transpose(1, 2)).flatten(0, 1)
        return torch.baddbmm(found, of_own, own_values).view(len(query_NHD), -1)


class Context:
    """What all layers share in one step.

    Args:
        rows: of the batch.
        lengths_P: ``[P]`` real tokens of each prompt.
        width: of the padded prompts.
    """

    def __init__(self, rows: Rows, lengths_P: Tensor, width: int) -> None:
        self.rows, self.step = rows, 0
        padding_PT = torch.arange(width, device=lengths_P.device) >= lengths_P[:, None]
        bias_PT = torch.zeros(padding_PT.shape, device=padding_PT.device).masked_fill_(padding_PT, -torch.inf)
        self.bias_P11T = bias_PT[:, None, None, :] if bool(padding_PT.any()) else None


class PrefixPast:
    """A past that torch's operations read.

    Args:
        hidden: of tokens and positions, given attention; see :meth:`LeanDecoder.hidden`.
        logits: of hidden states.
        keys_values: of the prompts.
        lengths_P: their lengths.
        prompts_N: prompt of each row, ascending.
    """

    def __init__(
        self,
        hidden: Callable[[Tensor, Tensor, Attend], Tensor],
        logits: Callable[[Tensor], Tensor],
        keys_values: KeysValues,
        lengths_P: Tensor,
        prompts_N: Tensor,
    ) -> None:
        self._hidden, self._logits = hidden, logits
        self.caches = [PrefixCache(keys, values) for keys, values in keys_values]
        self.lengths_P, self.width = lengths_P, keys_values[0][0].shape[2]
        self.context = Context(Rows(prompts_N, len(lengths_P)), lengths_P, self.width)

    def keep(self, kept: Tensor) -> None:
        """See :class:`Past`."""
        left, prompts_N = self.context.rows.prompts_N[kept].unique_consecutive(return_inverse=True)
        prompts = left if len(left) < len(self.lengths_P) else None
        for cache in self.caches:
            cache.keep(kept, prompts)
        self.lengths_P, step = self.lengths_P[left], self.context.step
        self.context = Context(Rows(prompts_N, len(left)), self.lengths_P, self.width)
        self.context.step = step

    def read(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """See :class:`Past`."""
        hidden = self._hidden(
            tokens_N,
            positions_N,
            lambda layer, queries, keys, values: self.caches[layer].attend(queries, keys, values, self.context),
        )
        self.context.step += 1
        return self._logits(hidden)
