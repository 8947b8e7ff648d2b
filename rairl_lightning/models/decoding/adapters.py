"""What a linear layer of a model computes: its base, and the adapters that it adds."""

from __future__ import annotations

from collections.abc import Sequence
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
