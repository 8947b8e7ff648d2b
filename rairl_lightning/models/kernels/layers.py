"""Norm and gated feed-forward part of a decoder block in fewer passes over memory, for float32 on a CPU.

transformers' own keep every step between; these keep what their gradient needs and compute the rest again.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.functional import onednn
from rairl_lightning.models.kernels.lora import FusedLoRALinear


class _RMSNorm(torch.autograd.Function):
    """``y = w · x r`` with ``r = 1 / √(mean x² + ε)`` and w frozen; keeps x and r.

    ``∂x = r w ∂y - x r³ mean(x w ∂y)``. Twice differentiable.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        rate = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(width).add_(eps).rsqrt_()
        ctx.save_for_backward(x, rate)
        ctx.weight, ctx.eps = weight, eps
        return torch.mul(x, rate).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, rate = ctx.saved_tensors
        weighted = gradients[0] * ctx.weight
        if torch.is_grad_enabled():  # a second derivative is wanted: it must see how the rate came about
            rate = torch.rsqrt(x.square().mean(-1, keepdim=True) + ctx.eps)
            return rate * weighted - x * rate**3 * (x * weighted).mean(-1, keepdim=True), None, None
        share = torch.linalg.vecdot(x, weighted).unsqueeze(-1).mul_(rate.pow(3)).div_(-x.shape[-1])
        return weighted.mul_(rate).addcmul_(x, share), None, None


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
        product = F.silu(gate).mul_(up)
        inner = onednn.linear(product, lora_a)
        ctx.save_for_backward(gate, up, lora_a, lora_b, inner)
        ctx.scale, ctx.frozen = scale, weight
        return onednn.linear(product, weight, bias).addmm_(inner, lora_b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gate, up, lora_a, lora_b, inner = ctx.saved_tensors
        activated, to_inner = F.silu(gate), ctx.scale * (gradient @ lora_b)
        product, to_product = activated * up, gradient @ ctx.frozen
        if torch.is_grad_enabled():  # a second derivative is wanted: it must see all, and nothing may be in place
            to_product = to_product + to_inner @ lora_a
            slope = torch.sigmoid(gate) * (1 - activated) + activated
            to_gate, to_up = to_product * up * slope, to_product * activated
            to_a, to_b = to_inner.t() @ product, ctx.scale * (gradient.t() @ (product @ lora_a.t()))
        else:
            to_a, to_b = to_inner.t() @ product, (gradient.t() @ inner).mul_(ctx.scale)
            to_product.addmm_(to_inner, lora_a)
            to_gate = torch.ops.aten.silu_backward(torch.mul(to_product, up, out=product), gate)
            to_up = activated.mul_(to_product)
        return to_gate, to_up, None, None, to_a, to_b, None


class FusedRMSNorm:
    """Put before a class of transformers that norms by the root mean square, whose attributes it reads."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, x: Tensor) -> Tensor:
        """As transformers'."""
        if self.weight.requires_grad or not onednn.suits(x, self.weight):
            return super().forward(x)  # type: ignore[misc]
        return _RMSNorm.apply(x, self.weight, self.variance_epsilon)

    def computes(self, x: Tensor) -> Tensor:
        """What the class before which it is put is taken to compute."""
        return self.weight * F.rms_norm(x, (x.shape[-1],), eps=self.variance_epsilon)


class FusedGatedMLP:
    """Put before a class of transformers that computes ``down(silu(gate(x)) up(x))``, whose attributes it reads."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As transformers'."""
        if not torch.is_grad_enabled() or not isinstance(self.down_proj, FusedLoRALinear):
            return super().forward(x)  # type: ignore[misc]
        gate, up = self.gate_proj(x), self.up_proj(x)
        weights = self.down_proj.plain_weights(gate)
        if weights is None:
            return self.down_proj(F.silu(gate) * up)
        out = _GatedDown.apply(gate.flatten(0, -2), up.flatten(0, -2), *weights)
        return out.view(*x.shape[:-1], out.shape[-1])

    def computes(self, x: Tensor) -> Tensor:
        """What the class before which it is put is taken to compute."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


FUSED: dict[Any, tuple[str, ...]] = {
    FusedRMSNorm: ("weight", "variance_epsilon"),
    FusedGatedMLP: ("gate_proj", "up_proj", "down_proj"),
}
"""What a module has that one of these classes may be put before."""


@torch.no_grad()
def fuse_layers(model: PreTrainedModel) -> None:
    """Let norms and gated feed-forward parts compute in fewer passes, where theirs is the formula that is known here.

    Only classes are swapped: parameters, names and saving stay. Other models, and other devices, are left alone.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return
    for module in model.modules():
        for fused, names in FUSED.items():
            if all(hasattr(module, name) for name in names) and not isinstance(module, fused):
                theirs: Any = type(module)
                candidate = _before(fused, theirs)
                if _agrees(module, candidate):
                    module.__class__ = candidate


@functools.cache
def _before(fused: Any, theirs: Any) -> Any:
    return type(f"Fused{theirs.__name__}", (fused, theirs), {})


def _agrees(module: Any, candidate: Any) -> bool:
    """Whether a module computes what the fused class takes it to compute, on some numbers."""
    width = module.gate_proj.in_features if hasattr(module, "gate_proj") else len(module.weight)
    numbers = torch.arange(3.0 * width).cos_().view(3, width)
    try:
        expected, found = module(numbers), candidate.computes(module, numbers)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return expected.shape == found.shape and torch.allclose(expected, found, rtol=1e-4, atol=1e-5)
