"""Float32 matrix products on a CPU by oneDNN, which torch ships but does not use for them by default.

Measured on two cores: with few rows, as in decoding, half the time of ``nn.Linear`` as the weight lies, a third once it
is packed; with a thousand rows 15 % less where there is AVX-512, 15 % more where there is none. Without autograd: who
needs a gradient wraps them.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from rairl_lightning.native.tensors import plain

# The layout chosen for this many rows is at least as good as the plain one from 1 to 256 rows.
PACKED_FOR_ROWS = 16
# From so many rows on torch's own products are faster on a CPU without AVX-512.
MANY_ROWS = 256


@functools.cache
def available() -> bool:
    """Whether this torch has the operators and they compute what they should."""
    try:
        x, weight, bias = torch.ones(2, 3), torch.arange(6.0).reshape(2, 3), torch.tensor([0.5, -0.5])
        found = torch.stack([_apply(x, weight, bias), _apply(x, _pack(weight), bias)])
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, torch.nn.functional.linear(x, weight, bias).expand(2, 2, 2))


def suits(*tensors: Tensor) -> bool:
    """Whether oneDNN may take these: :func:`plain` ones, where this torch has its operators."""
    return plain(*tensors) and available()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x Wᵀ + b`` without gradient; torch's own where oneDNN does not suit, or is slower.

    Args:
        x: ``[…, in]``.
        weight: ``[out, in]``, in any layout.
        bias: ``[out]``.

    Returns:
        ``[…, out]``.
    """
    few = _wide_registers() or x.numel() < MANY_ROWS * x.shape[-1]
    return _apply(x, weight, bias) if few and suits(x, weight) else torch.nn.functional.linear(x, weight, bias)


@functools.cache
def _wide_registers() -> bool:
    """Whether the CPU has AVX-512, as far as torch says."""
    supported = getattr(torch.cpu, "_is_avx512_supported", None)
    return supported is None or bool(supported())


class PackedLinear:
    """``x Wᵀ + b`` with a copy of ``W`` in the layout that oneDNN reads fastest; without gradient.

    Args:
        weight: ``[out, in]`` float32 on a CPU; later changes of it are not seen.
        bias: ``[out]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight.shape
        self._weight, self._bias = _pack(weight.detach()), bias

    def __call__(self, x: Tensor) -> Tensor:
        """``[…, in]`` to ``[…, out]``."""
        return _apply(x, self._weight, self._bias)


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR_ROWS)
