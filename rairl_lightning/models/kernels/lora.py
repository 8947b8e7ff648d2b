"""A frozen linear layer and its adapter in one step, forward and backward, for float32 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.functional import onednn


class _LinearWithAdapter(torch.autograd.Function):
    """``y = x Wᵀ + b + s (x Aᵀ) Bᵀ`` with W and b frozen; keeps x and ``x Aᵀ`` for the backward pass.

    ``∂x = ∂y W + s (∂y B) A``, ``∂A = s (∂y B)ᵀ x``, ``∂B = s ∂yᵀ (x Aᵀ)``. Twice differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        ctx.scale, ctx.frozen = scale, weight
        inner = onednn.linear(x, down)
        ctx.save_for_backward(x, down, up, inner)
        return onednn.linear(x, weight, bias).addmm_(inner, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, down, up, inner = ctx.saved_tensors
        scale, weight, again = ctx.scale, ctx.frozen, torch.is_grad_enabled()
        if again:  # a second derivative is wanted: it must see how the inner product came about
            inner = x @ down.t()
        to_inner = gradient @ up
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ weight
            # In place unless a second derivative is wanted.
            to_x = to_x + scale * (to_inner @ down) if again else to_x.addmm_(to_inner, down, alpha=scale)
        # The transpose of ∂A is the faster product of the two.
        return to_x, None, None, scale * (x.t() @ to_inner).t(), scale * (gradient.t() @ inner), None


class FusedLoRALinear(PeftLinear):
    """PEFT's layer, one step where it is the plain case: one active adapter, no dropout, float32 on a CPU.

    Only its class is swapped: parameters, names, saving and merging stay PEFT's.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As PEFT's."""
        weights = self.plain_weights(x)
        if args or kwargs or weights is None:
            return super().forward(x, *args, **kwargs)
        found = _LinearWithAdapter.apply(x.reshape(-1, x.shape[-1]), *weights)
        return found.view(*x.shape[:-1], found.shape[-1])

    def plain_weights(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, float] | None:
        """W, b, A, B and s of ``x Wᵀ + b + s (x Aᵀ) Bᵀ``, if the layer computes that for x."""
        adapter = self._only_adapter()
        if adapter is None or not onednn.suits(x, self.lora_A[adapter].weight):
            return None
        base, down, up = self.base_layer, self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return base.weight, base.bias, down, up, self.scaling[adapter]

    def _only_adapter(self) -> str | None:
        """The adapter in use, if the plain formula holds for it."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        (adapter,) = self.active_adapters
        plain = (
            adapter in self.lora_A
            and adapter not in self.lora_variant
            and self.lora_A[adapter].bias is None
            and self.lora_B[adapter].bias is None
            and not (self.training and getattr(self.lora_dropout[adapter], "p", 0.0))
            and not any(own is not None and own.requires_grad for own in (self.base_layer.weight, self.base_layer.bias))
        )
        return adapter if plain else None


def plain(model: nn.Module) -> None:
    """Make the layers PEFT's again, which call their parts in turn instead of reading their weights."""
    for module in model.modules():
        if type(module) is FusedLoRALinear:
            module.__class__ = PeftLinear


def adapted(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """PEFT's wrapper around a model with adapters put in, whose plain layers compute in one step where they can."""
    wrapped = get_peft_model(model, config)
    for module in wrapped.modules():
        if type(module) is PeftLinear and type(module.base_layer) is nn.Linear and not module.fan_in_fan_out:
            module.__class__ = FusedLoRALinear
    return wrapped
