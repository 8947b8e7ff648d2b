"""Parts of a decoder block for float32 on a CPU: they keep what their gradient needs, and no more."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.functional import onednn
from rairl_lightning.models.kernels.lora import FusedLoRALinear
from rairl_lightning.models.kernels.norms import FusedNorm
from rairl_lightning.models.kernels.threads import threads_for
from rairl_lightning.native import blocks

MATRICES = ("gate_proj", "up_proj", "down_proj")
LIKE_PRODUCTS = 16  # multiplications that take as long as one silu


class _GatedDown(torch.autograd.Function):
    """``h = silu(g) u`` through a frozen linear layer with its adapter, ``y = h Wᵀ + b + s (h Aᵀ) Bᵀ``.

    Keeps g, u and ``h Aᵀ``; h, which ``∂A = s (∂y B)ᵀ h`` reads, is computed again. Twice differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lora_a: Tensor,
        lora_b: Tensor,
        scale: float,
    ) -> Tensor:
        product = _gated(gate, up)
        inner = onednn.linear(product, lora_a)
        ctx.save_for_backward(gate, up, lora_a, lora_b, inner)
        ctx.scale, ctx.frozen = scale, weight
        return onednn.linear(product, weight, bias).addmm_(inner, lora_b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gate, up, lora_a, lora_b, inner = ctx.saved_tensors
        to_inner, to_product = ctx.scale * (gradient @ lora_b), gradient @ ctx.frozen
        if torch.is_grad_enabled():  # a second derivative is wanted: it must see all, and nothing may be in place
            to_gate, to_up, product = _gated_followed(to_product + to_inner @ lora_a, gate, up)
            to_a, to_b = to_inner.t() @ product, ctx.scale * (gradient.t() @ (product @ lora_a.t()))
        else:
            to_gate, to_up, product = _gated_backward(to_product.addmm_(to_inner, lora_a), gate, up)
            to_a, to_b = (product.t() @ to_inner).t(), (gradient.t() @ inner).mul_(ctx.scale)
        return to_gate, to_up, None, None, to_a, to_b, None


class _Gate(torch.autograd.Function):
    """``h = silu(g) u``; keeps g and u. Twice differentiable."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (gate, up) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():
            return _gated_followed(gradient, gate, up)[:2]
        return _gated_backward(gradient.clone(memory_format=torch.contiguous_format), gate, up)[:2]


def _gated_followed(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`_gated_backward` computes, for autograd to follow."""
    activated = F.silu(gate)
    slope = torch.sigmoid(gate) * (1 - activated) + activated
    return gradient * up * slope, gradient * activated, activated * up


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    """``h = silu(g) u``."""
    if blocks.suits(gate, up):
        return blocks.gate(gate, up, threads_for(LIKE_PRODUCTS * gate.numel()))
    return F.silu(gate).mul_(up)


def _gated_backward(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``∂g``, ``∂u`` and h, for ``∂h``, which is written to."""
    if blocks.suits(gradient, gate, up):
        return blocks.gate_backward(gradient, gate, up, threads_for(LIKE_PRODUCTS * gate.numel()))
    activated = F.silu(gate)
    product = activated * up
    to_up = activated.mul_(gradient)
    return torch.ops.aten.silu_backward(gradient.mul_(up), gate), to_up, product


class FusedGatedMLP:
    """Put before a class of transformers that computes ``down(silu(gate(x)) up(x))``, whose attributes it reads."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As transformers'."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        down: Any = self.down_proj
        fused = torch.is_grad_enabled() and isinstance(down, FusedLoRALinear)
        weights = down.plain_weights(gate) if fused else None
        if weights is None:
            # The same numbers as with an adapter: what has none is a reference for what has one.
            return down(_Gate.apply(gate, up) if blocks.suits(gate, up) else F.silu(gate) * up)
        out = _GatedDown.apply(gate.flatten(0, -2), up.flatten(0, -2), *weights)
        return out.view(*x.shape[:-1], out.shape[-1])

    def computes(self, x: Tensor) -> Tensor:
        """What the class before which it is put is taken to compute."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    @staticmethod
    def reads(module: Any) -> int | None:
        """The width of what a module reads, if it has the matrices."""
        return module.gate_proj.in_features if all(hasattr(module, name) for name in MATRICES) else None


FUSED = (FusedGatedMLP, FusedNorm)


@torch.no_grad()
def fuse_layers(model: PreTrainedModel) -> None:
    """Let gated feed-forward parts and norms keep and take less, where theirs is the formula that is known here.

    Only classes are swapped: parameters, names and saving stay. Other models, and other devices, are left alone.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return
    for module in model.modules():
        theirs: Any = type(module)
        for fused in FUSED:
            width = None if isinstance(module, fused) else fused.reads(module)
            if width is not None and _agrees(module, candidate := _before(fused, theirs), width):
                module.__class__ = candidate


@functools.cache
def _before(fused: Any, theirs: Any) -> Any:
    return type(f"Fused{theirs.__name__}", (fused, theirs), {})


def _agrees(module: Any, candidate: Any, width: int) -> bool:
    """Whether a module computes what the fused class takes it to compute, on some numbers."""
    numbers = torch.arange(3.0 * width).cos_().view(3, width)
    try:
        expected, found = module(numbers), candidate.computes(module, numbers)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return expected.shape == found.shape and torch.allclose(expected, found, rtol=1e-4, atol=1e-5)
