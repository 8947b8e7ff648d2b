"""The fused norm against transformers', up to second derivatives, its weight frozen or trained."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import gemma, llama, mistral, qwen2, qwen3
from compiled import needed, without_compiled
from torch import Tensor, nn

from rairl_lightning.models.kernels import norms
from rairl_lightning.models.kernels.layers import fuse_layers
from rairl_lightning.models.kernels.norms import FusedNorm


def both(trained: bool) -> tuple[nn.Module, nn.Module]:
    """The same norm, fused and as transformers has it."""
    fused, plain = llama(), llama()
    fuse_layers(fused)
    pair = fused.model.norm, plain.model.norm
    weight = torch.randn_like(pair[0].weight)
    for norm in pair:
        norm.requires_grad_(trained)
        norm.weight.data.copy_(weight)
    assert isinstance(pair[0], FusedNorm) and not isinstance(pair[1], FusedNorm)
    return pair


def everything(norm: nn.Module, x: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(), *(p for p in norm.parameters() if p.requires_grad)]
    out = norm(leaves[0])
    once = torch.autograd.grad((out * out.detach().cos()).sum(), leaves, retain_graph=True)
    first = torch.autograd.grad((out * out.cos()).sum(), leaves, create_graph=True)
    return [out, *once, *first, *torch.autograd.grad(first[0].square().sum(), leaves)]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needed)])
def test_it_is_transformers_own_to_rounding(compiled: bool, trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        without_compiled(monkeypatch)
    fused, plain = both(trained)
    x = torch.randn(2, 5, 32)
    ours, theirs = everything(fused, x), everything(plain, x)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with pytest.raises(AssertionError):  # the tolerance tells one per mille
        torch.testing.assert_close(1.001 * ours[1], theirs[1], atol=1e-4, rtol=1e-4)


@needed
def test_the_compiled_one_is_taken_and_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(norm: nn.Module) -> int:
        seen: dict[int, Tensor] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.setdefault(t.data_ptr(), t), lambda t: t):
            out = norm(torch.randn(40, 32).requires_grad_())
        assert out.requires_grad
        return sum(tensor.numel() for tensor in seen.values())

    fused, plain = both(True)
    assert kept(fused) == 40 * 32 + 40 + 32 < kept(plain)

    def forbidden(*_: object) -> None:
        raise AssertionError("the fused step was taken")

    monkeypatch.setattr(norms._Norm, "apply", forbidden)
    with pytest.raises(AssertionError, match="was taken"):
        fused(torch.randn(3, 32))
    fused(torch.randn(3, 32, dtype=torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        fused(torch.randn(3, 32))


@pytest.mark.parametrize("build", [llama, mistral, qwen2, qwen3])
def test_every_norm_of_these_is_fused(build) -> None:
    model = build()
    named = [part for part in model.modules() if type(part).__name__.endswith("RMSNorm")]
    fuse_layers(model)
    assert named and all(isinstance(part, FusedNorm) for part in named)
    assert isinstance(copy.deepcopy(model).model.norm, FusedNorm)


def test_other_formulas_and_other_types_are_left_alone() -> None:
    for model in (gemma(), llama().to(torch.bfloat16)):
        fuse_layers(model)
        assert not [part for part in model.modules() if isinstance(part, FusedNorm)]
