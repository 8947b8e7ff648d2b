"""The norm by the root mean square in one step, forward and backward, for float32 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rairl_lightning.models.kernels.threads import threads_for
from rairl_lightning.native import blocks

LIKE_PRODUCTS = 4  # multiplications that take as long as one number of a norm


class _Norm(torch.autograd.Function):
    """``y = x f w`` with ``f = 1 / √(mean x² + ε)``; keeps x and f. Twice differentiable.

    ``∂x = f (w ∂y - x f² mean(w ∂y x))``, ``∂w = Σ ∂y x f``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        out, factors = blocks.norm(x, weight, epsilon, _threads(x))
        ctx.save_for_backward(x, weight, factors)
        ctx.epsilon = epsilon
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, factors = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: it must see how the factors came about
            factors = torch.rsqrt(x.square().mean(-1) + ctx.epsilon)
        normed, to_x, to_weight = factors.unsqueeze(-1), None, None
        if ctx.needs_input_grad[0] and not torch.is_grad_enabled():
            to_x = blocks.norm_backward(gradient, x, weight, factors, _threads(x))
        elif ctx.needs_input_grad[0]:
            weighted = gradient * weight
            to_x = normed * (weighted - x * normed.square() * (weighted * x).mean(-1, keepdim=True))
        if ctx.needs_input_grad[1]:
            to_weight = (gradient * x * normed).flatten(0, -2).sum(0)
        return to_x, to_weight, None


def _threads(x: Tensor) -> int:
    return threads_for(LIKE_PRODUCTS * x.numel())


class FusedNorm:
    """Put before a class of transformers that computes ``x / √(mean x² + ε) · w``, whose attributes it reads."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        """As transformers'."""
        if not blocks.suits(hidden_states, self.weight):
            return super().forward(hidden_states)  # type: ignore[misc]
        return _Norm.apply(hidden_states, self.weight, self.variance_epsilon)

    def computes(self, x: Tensor) -> Tensor:
        """What the class before which it is put is taken to compute."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon) * self.weight

    @staticmethod
    def reads(module: Any) -> int | None:
        """The width of what a module reads, if it has the weight and ε."""
        weight = getattr(module, "weight", None)
        norm = hasattr(module, "variance_epsilon") and isinstance(weight, nn.Parameter) and weight.dim() == 1
        return len(weight) if norm and weight is not None else None
