"""Log-probabilities under a head over the vocabulary that does not learn, with their gradient from the same pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rairl_lightning.functional import onednn
from rairl_lightning.native import vocabulary
from rairl_lightning.native.tensors import readable


class FrozenHead(torch.autograd.Function):
    """``log π(x)`` and the entropy of π, with ``π = softmax((h Wᵀ + b) / τ)``; of these the first has a gradient.

    ``∂ log π(x) / ∂h = Σ_v ([v = x] - π(v)) w_v / τ`` does not depend on what comes after, so the forward pass, which
    has the probabilities at hand, keeps these H numbers a row instead of V logits or a second pass.
    """

    @staticmethod
    def forward(
        ctx: Any, states_MH: Tensor, targets_M: Tensor, weight_VH: Tensor, bias_V: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """``[M]`` each, at least float32."""
        if folds(states_MH, weight_VH):
            given = states_MH.detach(), targets_M, weight_VH, bias_V, temperature
            chosen, entropy, direction = vocabulary.head_statistics(*given, direction=ctx.needs_input_grad[0])
            if direction is not None:
                ctx.save_for_backward(direction)
            ctx.mark_non_differentiable(entropy)
            return chosen, entropy
        logits_MV = onednn.linear(states_MH, weight_VH, bias_V)
        logits_MV = logits_MV.to(torch.promote_types(logits_MV.dtype, torch.float32))
        logprobs_MV = torch.log_softmax(logits_MV if temperature == 1.0 else logits_MV / temperature, dim=-1)
        del logits_MV
        chosen = logprobs_MV.gather(-1, targets_M.unsqueeze(-1)).squeeze(-1)
        probabilities_MV = logprobs_MV.exp()
        entropy = entropies(probabilities_MV, logprobs_MV)
        if ctx.needs_input_grad[0]:
            # 1 - π(x) at the token itself, and rounded after that: of two rows of weights that nearly cancel, bfloat16
            # would leave nothing right.
            shares_MV = probabilities_MV.neg_().scatter_(1, targets_M.unsqueeze(-1), -chosen.expm1().unsqueeze(-1))
            direction_MH = shares_MV.to(weight_VH.dtype) @ weight_VH
            ctx.save_for_backward((direction_MH / temperature).to(states_MH.dtype))
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """To the states."""
        (direction_MH,) = ctx.saved_tensors
        return gradients[0].unsqueeze(-1).to(direction_MH.dtype) * direction_MH, None, None, None, None


def folds(*tensors: Tensor) -> bool:
    """Whether logits need not be there at once: compiled code, float32, on a CPU, outside of autocast."""
    return readable(*tensors) and vocabulary.available()


def is_frozen_linear(head: Callable[[Tensor], Tensor]) -> TypeGuard[nn.Linear]:
    """Whether a head is its weights and nothing else: no subclass, no hook, nothing of it learns."""
    return (
        type(head) is nn.Linear
        and not (head._forward_hooks or head._forward_pre_hooks)
        and not any(parameter.requires_grad for parameter in head.parameters())
    )


def entropies(probabilities_MV: Tensor, logprobs_MV: Tensor) -> Tensor:
    """``-Σ_v π(v) log π(v)``, ``[M]``, where a forbidden token adds nothing.

    Args:
        probabilities_MV: ``[M, V]`` π.
        logprobs_MV: ``[M, V]`` its logarithm, -inf where π is 0.
    """
    entropy = -torch.bmm(probabilities_MV.unsqueeze(1), logprobs_MV.unsqueeze(2)).flatten()
    if bool(entropy.isnan().any()):  # 0 · -inf
        return torch.special.entr(probabilities_MV).sum(-1)
    return entropy
