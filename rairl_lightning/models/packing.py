"""Traces as one row of their real tokens: no padding, and a prompt once for all its traces.

Everything but attention works on single tokens, so it runs on the row; attention is computed on padded blocks. What a
trace gives does not change: a prompt's hidden states do not depend on what follows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv

from rairl_lightning.models.kernels import packed_attention
from rairl_lightning.native.attending import Plan, Stretch
from rairl_lightning.types import TokenBatch

WORTH_SHARING = 0.9  # of the tokens without sharing; above it, one attention for each trace is simpler and faster


@dataclass(frozen=True)
class Block:
    """Some tokens of the packed row as rows padded on the right.

    Attributes:
        places_RL: ``[R, L]`` place in the packed row; any at padding.
        slots_S: ``[S]`` where each of the block's S tokens lies in the flattened block.
        tokens_S: ``[S]`` its place in the packed row; None where the block holds the whole row in order.
    """

    places_RL: Tensor
    slots_S: Tensor
    tokens_S: Tensor | None = None

    def unpack(self, x_HMD: Tensor) -> Tensor:
        """``[heads, M, size]`` of the packed row to ``[R, heads, L, size]``."""
        return _Unpack.apply(x_HMD.transpose(0, 1), self.places_RL, self.slots_S, self.tokens_S).transpose(1, 2)

    def pack(self, x_RHLD: Tensor) -> Tensor:
        """``[R, heads, L, size]`` to the block's tokens, ``[S, heads, size]``."""
        return _Pack.apply(x_RHLD.transpose(1, 2), self.slots_S)

    @cached_property
    def padding_RL(self) -> Tensor | None:
        """``[R, L]`` bool; None where there is no padding."""
        if len(self.slots_S) == self.places_RL.numel():
            return None
        padding = torch.ones(self.places_RL.numel(), dtype=torch.bool, device=self.slots_S.device)
        return padding.index_fill_(0, self.slots_S, False).view_as(self.places_RL)


@dataclass(frozen=True)
class Packing:
    """A batch of traces as one row.

    Attributes:
        ids_M: ``[M]`` the tokens.
        positions_M: ``[M]`` in their trace.
        places_NT: ``[N, T]`` place of each token of the batch; any at padding.
        prompts: the prompts, or all traces whole where none shares its prompt.
        stretches: the tokens of each prompt, then of each completion, as they lie in the row.
        completions: of the N traces, in their order; None where the traces are whole.
        prompt_of_N: ``[N]`` row of ``prompts``; None likewise.
    """

    ids_M: Tensor
    positions_M: Tensor
    places_NT: Tensor
    prompts: Block
    stretches: tuple[Stretch, ...]
    completions: Block | None = None
    prompt_of_N: Tensor | None = None

    @classmethod
    def of(cls, tokens: TokenBatch) -> Packing:
        """Find traces with the same prompt and lay the batch out."""
        prompt_of, lengths, prompt_lengths = same_prompts(tokens)
        prompts = list(dict(zip(prompt_of, prompt_lengths, strict=True)).values())
        shared = sum(prompts) + sum(lengths) - sum(prompt_lengths)
        if shared > WORTH_SHARING * sum(lengths):
            return cls._whole(tokens, lengths)
        return cls._shared(tokens, prompts, prompt_of, lengths, prompt_lengths)

    @classmethod
    def _whole(cls, tokens: TokenBatch, lengths: list[int]) -> Packing:
        mask, device = tokens.attention_mask, tokens.device
        places_NT = (mask.flatten().cumsum(0) - 1).clamp_(min=0).view(mask.shape)
        firsts = [sum(lengths[:n]) for n in range(len(lengths))]
        return cls(
            tokens.input_ids[mask],
            tokens.position_ids[mask],
            places_NT,
            _rows(firsts, lengths, device, whole=True),
            tuple(itertools.starmap(Stretch, zip(firsts, lengths, strict=True))),
        )

    @classmethod
    def _shared(
        cls,
        tokens: TokenBatch,
        prompts: list[int],
        prompt_of: list[int],
        lengths: list[int],
        prompt_lengths: list[int],
    ) -> Packing:
        """The prompts one after the other, then the completions."""
        mask, device = tokens.attention_mask, tokens.device
        starts = [sum(prompts[:p]) for p in range(len(prompts))]
        completions = [length - prompt for length, prompt in zip(lengths, prompt_lengths, strict=True)]
        first = sum(prompts)
        begins = [first + sum(completions[:n]) for n in range(len(completions))]
        # A token at position t lies t after its prompt's start, or t - prompt length after its completion's.
        positions_NT = tokens.position_ids
        prompt_start_N1 = torch.tensor([starts[p] for p in prompt_of], device=device)[:, None]
        begin_N1 = torch.tensor([b - p for b, p in zip(begins, prompt_lengths, strict=True)], device=device)[:, None]
        places_NT = positions_NT + torch.where(tokens.completion_mask, begin_N1, prompt_start_N1)
        places_NT = places_NT.masked_fill(~mask, 0)
        total = first + sum(completions)
        ids_M, positions_M = (torch.zeros(total, dtype=torch.int64, device=device) for _ in range(2))
        ids_M[places_NT[mask]], positions_M[places_NT[mask]] = tokens.input_ids[mask], positions_NT[mask]
        stretches = map(Stretch, [*starts, *begins], [*prompts, *completions], [*[None] * len(prompts), *prompt_of])
        return cls(
            ids_M,
            positions_M,
            places_NT,
            _rows(starts, prompts, device),
            tuple(stretches),
            _rows(begins, completions, device),
            torch.tensor(prompt_of, device=device),
        )

    @property
    def width(self) -> int:
        """Most keys that a row reads, padding included."""
        keys = self.prompts.places_RL.shape[1]
        return keys if self.completions is None else keys + self.completions.places_RL.shape[1]

    @cached_property
    def mask_N1LK(self) -> Tensor:
        """``[N, 1, L, Tp + L]`` bool, which keys a completion token reads: its prompt and what it wrote."""
        assert self.completions is not None and self.prompt_of_N is not None
        (rows, length), width = self.completions.places_RL.shape, self.prompts.places_RL.shape[1]
        device, lengths = self.ids_M.device, [stretch.length for stretch in self.stretches]
        own = torch.ones(length, length, dtype=torch.bool, device=device).tril_()
        prompt_N1 = torch.tensor(lengths, device=device)[self.prompt_of_N, None]
        read_NT = torch.arange(width, device=device) < prompt_N1
        both = read_NT[:, None].expand(rows, length, width), own.expand(rows, length, length)
        return torch.cat(both, dim=-1).unsqueeze(1)

    @cached_property
    def plan(self) -> Plan:
        """The same for compiled code."""
        return Plan.of(self.stretches)

    @cached_property
    def parts(self) -> tuple[packed_attention.Part, ...]:
        """Who reads whom."""
        prompts, own = self.prompts, self.completions
        first = packed_attention.Part(prompts.places_RL, prompts.places_RL, _causal_bias(prompts), prompts.padding_RL)
        if own is None or self.prompt_of_N is None:
            return (first,)
        keys_NT = torch.cat([prompts.places_RL[self.prompt_of_N], own.places_RL], dim=1)
        return first, packed_attention.Part(own.places_RL, keys_NT, _bias(self.mask_N1LK[:, 0]), own.padding_RL)

    @cached_property
    def order_M(self) -> Tensor:
        """``[M]`` where each token lies in the blocks, one after the other."""
        if self.completions is None:
            return self.prompts.slots_S
        return torch.cat([self.prompts.slots_S, self.completions.slots_S + self.prompts.places_RL.numel()])

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
        """Causal attention of every token over its own trace.

        Args:
            query: ``[1, heads, M, size]``.
            keys: ``[1, kv heads, M, size]``.
            values: likewise.
            scale: of the scores; None for ``1 / √size``.

        Returns:
            ``[1, M, heads, size]``.
        """
        packed = query[0], keys[0], values[0]
        if packed_attention.suits(*packed, width=self.width):
            q, k, v = (part.transpose(0, 1) for part in packed)
            factor = query.shape[-1] ** -0.5 if scale is None else scale
            return packed_attention.attend(q, k, v, self, factor).unsqueeze(0)
        shared = query.shape[1] // keys.shape[1]
        q, k, v = (self.prompts.unpack(part) for part in packed)
        # Nothing real reads the padding, which comes last.
        found = F.scaled_dot_product_attention(
            q, repeat_kv(k, shared), repeat_kv(v, shared), is_causal=True, scale=scale
        )
        before = self.prompts.pack(found)
        if self.completions is None or self.prompt_of_N is None:
            return before.unsqueeze(0)
        rows = self.prompt_of_N
        own_q, own_k, own_v = (self.completions.unpack(part) for part in packed)
        k, v = (torch.cat([a.index_select(0, rows), b], dim=2) for a, b in ((k, own_k), (v, own_v)))
        found = F.scaled_dot_product_attention(
            own_q, repeat_kv(k, shared), repeat_kv(v, shared), attn_mask=self.mask_N1LK, scale=scale
        )
        return torch.cat([before, self.completions.pack(found)]).unsqueeze(0)


def _rows(starts: list[int], lengths: list[int], device: torch.device, whole: bool = False) -> Block:
    """Stretches of the packed row as a block."""
    width = max(1, *lengths)
    columns_L, lengths_R1 = torch.arange(width), torch.tensor(lengths)[:, None]
    real_RL = columns_L < lengths_R1
    places_RL = (torch.tensor(starts)[:, None] + columns_L).masked_fill(~real_RL, 0)
    slots_S = real_RL.flatten().nonzero().squeeze(1)
    tokens_S = None if whole else places_RL[real_RL].to(device)
    return Block(places_RL.to(device), slots_S.to(device), tokens_S)


def _bias(read: Tensor) -> Tensor:
    """0 where a key is read, -inf elsewhere."""
    return torch.zeros(read.shape, device=read.device).masked_fill_(~read, -torch.inf)


def _causal_bias(block: Block) -> Tensor:
    length = block.places_RL.shape[1]
    return _bias(torch.ones(1, length, length, dtype=torch.bool, device=block.places_RL.device).tril_())


class _Unpack(torch.autograd.Function):
    """Rows of a table by index, where each real token is read once: the gradient is a read too, not a sum."""

    @staticmethod
    def forward(ctx: Any, x_MHD: Tensor, places_RL: Tensor, slots_S: Tensor, tokens_S: Tensor | None) -> Tensor:
        ctx.save_for_backward(slots_S, tokens_S)
        ctx.rows = x_MHD.shape[0]
        return x_MHD.index_select(0, places_RL.flatten()).view(*places_RL.shape, *x_MHD.shape[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slots_S, tokens_S = ctx.saved_tensors
        found = gradients[0].flatten(0, 1).index_select(0, slots_S)
        if tokens_S is None:
            return found, None, None, None
        return found.new_zeros(ctx.rows, *found.shape[1:]).index_copy(0, tokens_S, found), None, None, None


class _Pack(torch.autograd.Function):
    """The real tokens of a block."""

    @staticmethod
    def forward(ctx: Any, x_RLHD: Tensor, slots_S: Tensor) -> Tensor:
        ctx.save_for_backward(slots_S)
        ctx.shape = x_RLHD.shape
        return x_RLHD.flatten(0, 1).index_select(0, slots_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slots_S,) = ctx.saved_tensors
        flat = gradients[0].new_zeros(ctx.shape[0] * ctx.shape[1], *ctx.shape[2:])
        return flat.index_copy(0, slots_S, gradients[0]).view(ctx.shape), None


def same_prompts(tokens: TokenBatch) -> tuple[list[int], list[int], list[int]]:
    """Which traces have the same prompt.

    Args:
        tokens: N traces, padded on either side.

    Returns:
        Of each trace: its prompt, counted from 0 as they first come; its real tokens; those of its prompt.
    """
    lengths = tokens.lengths_N.tolist()
    prompt_lengths = (tokens.attention_mask & ~tokens.completion_mask).sum(dim=1).tolist()
    real = tokens.input_ids[tokens.attention_mask].tolist()
    starts = [0, *itertools.accumulate(lengths)][: len(lengths)]
    keys: dict[tuple[int, ...], int] = {}
    prompt_of = [
        keys.setdefault(tuple(real[start : start + prompt]), len(keys))
        for start, prompt in zip(starts, prompt_lengths, strict=True)
    ]
    return prompt_of, lengths, prompt_lengths
