"""What ``cpp/decoding.cpp`` offers, with tensors in the place of addresses."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.native.compiling import Signatures, bound, library

FLOAT32, BFLOAT16, FLOAT16 = range(3)
"""How panels hold weights; the last two only what they hold without loss."""


class Linear(ctypes.Structure):
    """``y = x Wᵀ + b + (x Aᵀ) Bᵀ``, see ``cpp/products.h``."""

    _fields_ = (
        *((name, c_void_p) for name in ("weights", "bias", "down", "up")),
        *((name, c_int64) for name in ("inputs", "outputs", "rank", "kind")),
    )


class Layer(ctypes.Structure):
    """One block."""

    _fields_ = (
        *((name, c_void_p) for name in ("before_attention", "query_norm", "key_norm", "before_mlp")),
        *((name, Linear) for name in ("query", "key", "value", "out", "gate", "up", "down")),
    )


class Model(ctypes.Structure):
    """All of them, and the sizes."""

    _fields_ = (
        ("layers", POINTER(Layer)),
        ("norm", c_void_p),
        ("head", Linear),
        *((name, c_int64) for name in ("count", "hidden", "heads", "groups", "size", "inner")),
        ("epsilon", c_float),
    )


class Rows(ctypes.Structure):
    """Rows that each read one more token."""

    _fields_ = (
        *((name, c_void_p) for name in ("embedded", "cosines", "sines", "prompt_of", "lengths")),
        *((name, c_void_p) for name in ("prompt_keys", "prompt_values", "own_keys", "own_values")),
        *((name, c_int64) for name in ("count", "prompts", "width", "room", "step")),
    )


SIGNATURES: Signatures = {
    "panel_width": (c_int64, []),
    "key_room": (c_int64, []),
    "pack": (c_int, [c_void_p, *[c_int64] * 5, c_void_p, c_int]),
    "linear": (None, [POINTER(Linear), c_void_p, c_int64, c_void_p, c_void_p, c_int]),
    "scratch": (c_int64, [POINTER(Model), POINTER(Rows), c_int]),
    "step": (None, [POINTER(Model), POINTER(Rows), c_void_p, c_void_p, c_int]),
}


def available() -> bool:
    """Whether there is a library."""
    return library("decoding") is not None


@functools.cache
def _library() -> Any:
    return bound("decoding", SIGNATURES)


def padded(outputs: int) -> int:
    """Outputs with those that fill the last panel."""
    width = _library().rairl_panel_width()
    return -(-outputs // width) * width


def key_room(positions: int) -> int:
    """Positions that keys and values have room for, if they have it for these."""
    unit = _library().rairl_key_room()
    return -(-positions // unit) * unit


def pack(weight: Tensor, kinds: Sequence[int] = (BFLOAT16, FLOAT16, FLOAT32)) -> tuple[Tensor, int]:
    """Panels of a matrix and their kind, the first that holds it without loss.

    Args:
        weight: ``[out, in]`` float32 on a CPU, in any layout.
        kinds: to try; FLOAT32 holds all.
    """
    size, (outputs, inputs) = padded(len(weight)) * weight.shape[1], weight.shape
    for kind in kinds:
        panels = torch.empty(size, dtype=torch.float32 if kind == FLOAT32 else torch.int16)
        sizes = outputs, inputs, *weight.stride(), kind
        if _library().rairl_pack(weight.data_ptr(), *sizes, panels.data_ptr(), torch.get_num_threads()):
            return panels, kind
    raise ValueError(f"None of the kinds {list(kinds)} holds these weights without loss.")


def scratch(model: Model, rows: Rows, threads: int) -> Tensor:
    """Room for what :func:`step` writes to on its way."""
    return torch.empty(_library().rairl_scratch(model, rows, threads), dtype=torch.float32, device="cpu")


def step(model: Model, rows: Rows, room: Tensor, logits: Tensor, threads: int) -> None:
    """Read one more token of every row: writes its keys and values, and the next token's logits.

    Args:
        model: whose tensors somebody keeps.
        rows: likewise.
        room: :func:`scratch` of these.
        logits: ``[N, padded(vocabulary)]`` float32, written to.
        threads: that share the work.
    """
    _library().rairl_step(model, rows, room.data_ptr(), logits.data_ptr(), threads)


class PanelLinear:
    """``x Wᵀ`` with a copy of ``W`` in panels; without gradient.

    Args:
        weight: ``[out, in]`` float32 on a CPU; later changes of it are not seen.

    Attributes:
        kind: how the panels hold it.
    """

    def __init__(self, weight: Tensor) -> None:
        self._panels, self.kind = pack(weight.detach())
        self._outputs, inputs = weight.shape
        self._structure = Linear(self._panels.data_ptr(), None, None, None, inputs, self._outputs, 0, self.kind)

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, in]`` to ``[N, out]``."""
        x = x.contiguous()
        y = x.new_empty(len(x), padded(self._outputs))
        threads = torch.get_num_threads()
        _library().rairl_linear(self._structure, x.data_ptr(), len(x), None, y.data_ptr(), threads)
        return y[:, : self._outputs]
