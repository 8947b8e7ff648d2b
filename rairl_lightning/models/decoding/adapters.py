"""What a linear layer of a model computes: its base, and the adapters that it adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


def base_of(linear: Any) -> Any:
    """The layer itself, without PEFT's wrapper."""
    return linear.get_base_layer() if isinstance(linear, LoraLayer) else linear


def mergeable(linear: Any) -> bool:
    """Whether one dense float32 matrix on a CPU can stand for the layer."""
    base = base_of(linear)
    quantised = getattr(base.weight, "quant_state", None) is not None
    plain = type(base) is nn.Linear and base.weight.dtype == torch.float32
    if base.weight.device.type != "cpu" or not (plain or quantised):
        return False
    if not isinstance(linear, LoraLayer):
        return True
    # DoRA and other variants are more than a sum.
    biased = any(linear.lora_B[name].bias is not None for name in active_adapters(linear))
    return not (linear.merged or getattr(linear, "lora_variant", None) or biased)


def active_adapters(linear: Any) -> list[str]:
    """Names of the adapters that a layer adds."""
    if not isinstance(linear, LoraLayer) or linear.disable_adapters:
        return []
    return [name for name in linear.active_adapters if name in linear.lora_A]


def dense(linear: Any) -> Tensor:
    """Weight ``[out, in]`` without adapters; float32. May be the layer's own tensor."""
    weight = base_of(linear).weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, state)
    return weight.detach().float()


def merged(linear: Any) -> Tensor:
    """Weight ``[out, in]`` with the active adapters added; float32. May be the layer's own tensor."""
    weight = dense(linear)
    for name in active_adapters(linear):
        weight = weight + linear.get_delta_weight(name)
    return weight


def biases(linears: Sequence[Any]) -> Tensor | None:
    """``[Σ out]`` float32 of layers side by side; None where none has one."""
    bases = [base_of(linear) for linear in linears]
    if all(base.bias is None for base in bases):
        return None
    return torch.cat([torch.zeros(b.out_features) if b.bias is None else b.bias.detach().float() for b in bases])


@dataclass(frozen=True)
class SideBySide:
    """``s B A`` of layers that read the same input, as one pair of matrices.

    Attributes:
        down: ``[in, Σ r]``.
        up: ``[Σ r, Σ out]``, s included; 0 where an adapter is not of that layer.
    """

    down: Tensor
    up: Tensor

    @classmethod
    def of(cls, linears: Sequence[Any]) -> SideBySide | None:
        """Those that are active now; None where there are none."""
        total, first = sum(linear.out_features for linear in linears), 0
        downs: list[Tensor] = []
        ups: list[Tensor] = []
        for linear in linears:
            last = first + linear.out_features
            for name in active_adapters(linear):
                down, up = (layers[name].weight.detach().float() for layers in (linear.lora_A, linear.lora_B))
                downs.append(down)
                ups.append(up.new_zeros(len(down), total))
                torch.mul(up.t(), linear.scaling[name], out=ups[-1][:, first:last])
            first = last
        return cls(torch.cat(downs).t().contiguous(), torch.cat(ups)) if downs else None

    def add_to(self, y: Tensor, x: Tensor) -> Tensor:
        """``y + s (x Aᵀ) Bᵀ``, in place."""
        return y.addmm_(x @ self.down, self.up)
