"""Attention of a packed row for float32 on a CPU: compiled code's, or heads that share keys in one product.

Neither keeps probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rairl_lightning.models.kernels.threads import threads_for
from rairl_lightning.native import attending
from rairl_lightning.native.tensors import plain, readable

# Longest rows whose probabilities may be there at once, 4 bytes for each pair of a head's query and key. Others are for
# attention whose memory is linear in their length, as compiled code's is.
MOST_KEYS = 512


@dataclass(frozen=True)
class Part:
    """Rows of queries, each with the keys that it may read.

    Attributes:
        queries_RL: ``[R, L]`` place of each query in the packed row; any at padding.
        keys_RT: ``[R, T]`` place of each key; any where none reads it.
        bias_RLT: ``[R or 1, L, T]`` 0 where a query reads a key, -inf elsewhere.
        padding_RL: ``[R, L]`` bool, or None where there is no padding.
    """

    queries_RL: Tensor
    keys_RT: Tensor
    bias_RLT: Tensor
    padding_RL: Tensor | None


class Layout(Protocol):
    """Who reads whom in a packed row, in the two ways that there are to tell."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Which together hold every token once as a query."""

    @property
    def order_M(self) -> Tensor:
        """``[M]`` where each token lies in the parts' queries, one part after the other."""

    @property
    def plan(self) -> attending.Plan:
        """For compiled code."""


def suits(*tensors: Tensor, width: int) -> bool:
    """Whether these may be attended to here: float32 on a CPU outside of autocast, and without a compiler short rows.

    Args:
        tensors: queries, keys and values.
        width: most keys that a row reads.
    """
    return plain(*tensors) and (width <= MOST_KEYS or _compiled(*tensors))


def _compiled(*tensors: Tensor) -> bool:
    """Whether compiled code takes them: values as wide as keys."""
    return readable(*tensors) and tensors[-1].shape == tensors[-2].shape and attending.available()


def attend(query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, layout: Layout, scale: float) -> Tensor:
    """``softmax(s q Kᵀ + b) V`` of every token of a packed row.

    Args:
        query_MHD: ``[M, heads, size]``.
        keys_MKD: ``[M, kv heads, size]``.
        values_MKD: likewise.
        layout: of the row.
        scale: s.

    Returns:
        ``[M, heads, size]``.
    """
    return _Attention.apply(query_MHD, keys_MKD, values_MKD, layout, scale)


class _Attention(torch.autograd.Function):
    """``softmax(s q Kᵀ + b) V`` of every token of a packed row; twice differentiable.

    Keeps q, K and V. With ``P`` the probabilities, computed again: ``∂V = Pᵀ ∂y``, ``∂S = P (∂P - Σ P ∂P)`` with
    ``∂P = ∂y Vᵀ``, ``∂q = s ∂S K``, ``∂K = s ∂Sᵀ q``.
    """

    @staticmethod
    def forward(
        ctx: Any, query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, layout: Layout, scale: float
    ) -> Tensor:
        inputs = query_MHD, keys_MKD, values_MKD
        ctx.save_for_backward(*inputs)
        ctx.layout, ctx.scale, ctx.native = layout, scale, _compiled(*inputs)
        if ctx.native:
            return attending.attend(layout.plan, *inputs, scale, _threads(layout.plan, query_MHD, 2))
        return _attended(*inputs, layout, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_MHD, keys_MKD, values_MKD = inputs = ctx.saved_tensors
        layout, given = ctx.layout, (query_MHD, keys_MKD, values_MKD, gradients[0])
        if torch.is_grad_enabled():  # a second derivative is wanted: it must see how the probabilities came about
            out = _followed(query_MHD, keys_MKD, values_MKD, layout, ctx.scale)
            return *torch.autograd.grad(out, inputs, gradients, create_graph=True), None, None
        if ctx.native:
            threads = _threads(layout.plan, query_MHD, 5)
            return *attending.attend_back(layout.plan, *given, ctx.scale, threads), None, None
        return *_back(*given, layout, ctx.scale), None, None


def _threads(plan: attending.Plan, query_MHD: Tensor, products: int) -> int:
    """For so many products of every query with the keys that it reads."""
    return threads_for(products * plan.pairs * query_MHD[0].numel())


def _attended(query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, layout: Layout, scale: float) -> Tensor:
    groups, found = keys_MKD.shape[1], []
    for part in layout.parts:
        query, keys, values = _read(part, query_MHD, keys_MKD, values_MKD)
        probabilities = _probabilities(part, query.mul_(scale), keys)
        found.append(_rows_first(torch.bmm(probabilities, values), part.queries_RL, groups))
    return torch.cat(found).index_select(0, layout.order_M)


def _back(
    query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, gradient_MHD: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, given that of what comes of them."""
    groups = keys_MKD.shape[1]
    to_query, to_keys, to_values = (torch.zeros_like(x) for x in (query_MHD, keys_MKD, values_MKD))
    for part in layout.parts:
        query, keys, values = _read(part, query_MHD, keys_MKD, values_MKD)
        probabilities = _probabilities(part, query.mul_(scale), keys)
        gradient = gradient_MHD.index_select(0, part.queries_RL.flatten())
        if part.padding_RL is not None:
            gradient.masked_fill_(part.padding_RL.view(-1, 1, 1), 0.0)
        gradient = _heads_first(gradient, part.queries_RL, groups)
        to_scores = torch.ops.aten._softmax_backward_data(
            torch.bmm(gradient, values.transpose(1, 2)), probabilities, -1, torch.float32
        )
        _add(to_values, torch.bmm(probabilities.transpose(1, 2), gradient), part.keys_RT, groups)
        _add(to_keys, torch.bmm(to_scores.transpose(1, 2), query), part.keys_RT, groups)
        _add(to_query, torch.bmm(to_scores, keys), part.queries_RL, groups)
    return to_query.mul_(scale), to_keys, to_values


def _followed(query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, layout: Layout, scale: float) -> Tensor:
    """What :func:`attend` computes, for autograd to follow."""
    groups, found = keys_MKD.shape[1], []
    for part in layout.parts:
        query, keys, values = _read(part, query_MHD, keys_MKD, values_MKD)
        found.append(_rows_first(_probabilities(part, query * scale, keys) @ values, part.queries_RL, groups))
    return torch.cat(found).index_select(0, layout.order_M)


def _read(part: Part, query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[R · kv heads, heads / kv heads · L, size]``, and ``[R · kv heads, T, size]`` twice."""
    groups, places = keys_MKD.shape[1], part.keys_RT.flatten()
    query = _heads_first(query_MHD.index_select(0, part.queries_RL.flatten()), part.queries_RL, groups)
    keys, values = (_heads_first(x.index_select(0, places), part.keys_RT, groups) for x in (keys_MKD, values_MKD))
    return query, keys, values


def _probabilities(part: Part, query: Tensor, keys: Tensor) -> Tensor:
    scores = torch.bmm(query, keys.transpose(1, 2))
    # [R, kv heads · heads of each, L, T]
    biased = scores.view(len(part.queries_RL), -1, *part.bias_RLT.shape[1:]) + part.bias_RLT.unsqueeze(1)
    return biased.softmax(dim=-1).view_as(scores)


def _heads_first(x_SHD: Tensor, places_RL: Tensor, groups: int) -> Tensor:
    """``[R · L, heads, size]`` to ``[R · groups, heads / groups · L, size]``."""
    rows, length = places_RL.shape
    x = x_SHD.unflatten(1, (groups, -1)).unflatten(0, (rows, length)).permute(0, 2, 3, 1, 4)
    return x.reshape(rows * groups, -1, x_SHD.shape[-1])


def _rows_first(x: Tensor, places_RL: Tensor, groups: int) -> Tensor:
    """The inverse of :func:`_heads_first`."""
    rows, length = places_RL.shape
    return x.view(rows, groups, -1, length, x.shape[-1]).permute(0, 3, 1, 2, 4).reshape(rows * length, -1, x.shape[-1])


def _add(sums_MHD: Tensor, x: Tensor, places_RL: Tensor, groups: int) -> None:
    """Add rows to the tokens that they stand for; those of padding are 0."""
    sums_MHD.index_add_(0, places_RL.flatten(), _rows_first(x, places_RL, groups))
