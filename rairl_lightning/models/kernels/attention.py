"""Attention that also says how much weight its keys had, so that two attentions can be joined into one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Below this many multiplications a second thread costs more than it brings: measured on two cores, where it halves the
# time of a decoding step's attention for 16 rows.
WORTH_A_THREAD = 4_000_000


def attention_with_weight(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """``softmax(s q·K + b) V`` and ``log Σ exp(s q·K + b)``, without gradient.

    Args:
        query: ``[N, heads, L, size]``.
        keys: ``[N, heads, T, size]``.
        values: likewise.
        bias: added to the scores, broadcast to ``[N, heads, L, T]``; None for none.
        scale: s.

    Returns:
        ``[N, heads, L, size]`` and ``[N, heads, L, 1]`` float32.
    """
    if query.device.type == "cpu" and query.dtype == torch.float32 and _fused_is_right():
        if bias is not None:
            bias = bias.expand(*query.shape[:3], keys.shape[2])
        with few_threads(query.numel() * keys.shape[2]):
            return _fused(query, keys, values, bias, scale)
    return _plain(query, keys, values, bias, scale)


@contextmanager
def few_threads(products: int) -> Iterator[None]:
    """One thread for a block of little work on a CPU, where waking another takes longer than the work.

    Args:
        products: multiplications of the block.
    """
    threads = torch.get_num_threads()
    if threads == 1 or products > WORTH_A_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def joined(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """What one attention over both sets of keys would give, from the two over one set each."""
    share = torch.sigmoid(first[1] - second[1]).to(first[0].dtype)
    return torch.lerp(second[0], first[0], share)


def _fused(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, weight = operator(query, keys, values, 0.0, False, attn_mask=bias, scale=scale)
    return out, weight.unsqueeze(-1)


def _plain(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    scores = (query @ keys.transpose(2, 3)).float() * scale
    if bias is not None:
        scores = scores + bias
    weight = scores.logsumexp(dim=-1, keepdim=True)
    return (scores - weight).exp().to(values.dtype) @ values, weight


@functools.cache
def _fused_is_right() -> bool:
    """Whether this torch has the operator and it computes what it should."""
    numbers = torch.arange(48.0).reshape(1, 2, 3, 8).sin()
    bias = torch.tensor([0.0, 0.0, -torch.inf])[None, None, None].expand(1, 2, 3, 3)
    try:
        found = _fused(numbers, numbers.flip(2), numbers.cos(), bias, 0.5)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    expected = _plain(numbers, numbers.flip(2), numbers.cos(), bias, 0.5)
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))
