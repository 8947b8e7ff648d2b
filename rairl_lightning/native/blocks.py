"""What ``cpp/blocks.cpp`` offers, with tensors in the place of addresses."""

from __future__ import annotations

import functools
from ctypes import c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.native.compiling import Signatures, bound, library
from rairl_lightning.native.tensors import readable

SIGNATURES: Signatures = {
    "gate": (None, [*[c_void_p] * 3, c_int64, c_int]),
    "gate_backward": (None, [*[c_void_p] * 5, c_int64, c_int]),
    "norm": (None, [*[c_void_p] * 2, c_float, *[c_int64] * 2, *[c_void_p] * 2, c_int]),
    "norm_backward": (None, [*[c_void_p] * 4, *[c_int64] * 2, c_void_p, c_int]),
}


def available() -> bool:
    """Whether there is a library."""
    return library("blocks") is not None


def suits(*tensors: Tensor) -> bool:
    """Whether these may be given to it, and there is one."""
    return readable(*tensors) and available()


@functools.cache
def _library() -> Any:
    return bound("blocks", SIGNATURES)


def gate(gate: Tensor, up: Tensor, threads: int) -> Tensor:
    """``silu(g) u``."""
    gate, up = gate.contiguous(), up.contiguous()
    product = torch.empty_like(gate)
    _library().rairl_gate(gate.data_ptr(), up.data_ptr(), product.data_ptr(), gate.numel(), threads)
    return product


def gate_backward(gradient: Tensor, gate: Tensor, up: Tensor, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``∂g``, ``∂u`` and the product itself.

    Args:
        gradient: of the product, contiguous; ``∂g`` is written in its place.
        gate: g.
        up: u.
        threads: that share the work.
    """
    assert gradient.is_contiguous()
    gate, up = gate.contiguous(), up.contiguous()
    to_up, product = torch.empty_like(gate), torch.empty_like(gate)
    places = (one.data_ptr() for one in (gradient, gate, up, to_up, product))
    _library().rairl_gate_backward(*places, gate.numel(), threads)
    return gradient, to_up, product


def norm(x: Tensor, weight: Tensor, epsilon: float, threads: int) -> tuple[Tensor, Tensor]:
    """``y = x f w`` with ``f = 1 / √(mean x² + ε)`` of each row, and f.

    Args:
        x: ``[…, width]``.
        weight: ``[width]``.
        epsilon: ε.
        threads: that share the work.
    """
    x, weight = x.contiguous(), weight.contiguous()
    width = x.shape[-1]
    y, factors = torch.empty_like(x), x.new_empty(x.shape[:-1])
    places = x.data_ptr(), weight.data_ptr(), epsilon, factors.numel(), width
    _library().rairl_norm(*places, y.data_ptr(), factors.data_ptr(), threads)
    return y, factors


def norm_backward(gradient: Tensor, x: Tensor, weight: Tensor, factors: Tensor, threads: int) -> Tensor:
    """``∂x``, for what :func:`norm` took and gave."""
    gradient, x, weight = gradient.contiguous(), x.contiguous(), weight.contiguous()
    to_x = torch.empty_like(x)
    places = (one.data_ptr() for one in (gradient, x, weight, factors))
    _library().rairl_norm_backward(*places, factors.numel(), x.shape[-1], to_x.data_ptr(), threads)
    return to_x
