"""The fused norm and feed-forward part against transformers', up to second derivatives; and where they step aside."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import gemma, llama, mistral, qwen2, qwen3
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from rairl_lightning.models.kernels.layers import FusedGatedMLP, FusedRMSNorm, fuse_layers
from rairl_lightning.models.kernels.lora import adapted

LORA = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules="all-linear")


def pair(build=llama, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """The same adapted model, with fused layers and with transformers' own."""
    torch.manual_seed(0)
    model: PreTrainedModel = build().to(dtype).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
    fused, plain = copy.deepcopy(model), model
    fuse_layers(fused)
    fused, plain = (adapted(one, copy.deepcopy(LORA)) for one in (fused, plain))
    with torch.no_grad():
        for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
            if "lora_" in name:
                one.copy_(torch.randn_like(one) * 0.3)
            other.copy_(one)
    return fused, plain


def fused_parts(model: nn.Module) -> list[type]:
    return [kind for part in model.modules() for kind in (FusedRMSNorm, FusedGatedMLP) if isinstance(part, kind)]


def decoder_of(model: nn.Module) -> nn.Module:
    return model.get_base_model().get_decoder()


def everything(model: nn.Module, x: torch.Tensor, twice: bool) -> list[torch.Tensor]:
    """Output, gradients, and the gradients of a penalty on the input's gradient."""
    leaves = [x.clone().requires_grad_(), *(p for p in model.parameters() if p.requires_grad)]
    out = model(leaves[0])
    first = torch.autograd.grad((out * out.detach().cos()).sum(), leaves, create_graph=twice)
    return [out, *first, *(torch.autograd.grad(first[0].square().sum(), leaves) if twice else ())]


@pytest.mark.parametrize("part", ["mlp", "input_layernorm"])
@pytest.mark.parametrize("twice", [False, True])
def test_a_part_is_transformers_own_to_rounding(part: str, twice: bool) -> None:
    models = pair()
    fused, plain = (getattr(decoder_of(model).layers[0], part) for model in models)
    assert fused_parts(fused) and not fused_parts(plain)
    x = torch.randn(2, 5, decoder_of(models[0]).config.hidden_size)
    ours, theirs = everything(fused, x, twice), everything(plain, x, twice)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)
    with pytest.raises(AssertionError):  # the tolerance tells one per mille
        torch.testing.assert_close(1.001 * ours[1], theirs[1], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("build", [llama, mistral, qwen2, qwen3])
def test_a_model_learns_the_same(build) -> None:
    fused, plain = pair(build)
    assert len(fused_parts(fused)) >= 3 * len(decoder_of(fused).layers)
    ids = torch.arange(1, 13).view(2, 6)
    for model in (fused, plain):
        model(input_ids=ids).logits.cos().sum().backward()
    for (name, one), (_, other) in zip(fused.named_parameters(), plain.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(model: nn.Module) -> int:
        seen: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.setdefault(t.data_ptr(), t.numel()) or t, id):
            model(torch.randn(40, decoder_of(whole).config.hidden_size).requires_grad_())
        return sum(seen.values())

    whole, plain = pair()
    for part in ("mlp", "input_layernorm"):
        ours, theirs = (kept(getattr(decoder_of(model).layers[0], part)) for model in (whole, plain))
        assert ours < theirs


def test_other_formulas_other_types_and_norms_that_learn_are_left_alone() -> None:
    assert not fused_parts(pair(gemma)[0]), "its norm multiplies by 1 + w, its gate is a GELU"
    assert not fused_parts(pair(dtype=torch.bfloat16)[0])
    fused, plain = (decoder_of(model).norm for model in pair())
    for norm in (fused, plain):
        norm.weight.requires_grad_()
    x = torch.randn(3, len(fused.weight))
    gradients = [torch.autograd.grad(norm(x).cos().sum(), norm.weight)[0] for norm in (fused, plain)]
    torch.testing.assert_close(*gradients)


def test_switched_off_adapters_are_off() -> None:
    fused, plain = pair()
    ids = torch.arange(1, 7)[None]
    with fused.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(fused(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    copied = copy.deepcopy(fused)
    torch.testing.assert_close(copied(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-4, rtol=1e-3)
    with fused.disable_adapter(), pytest.raises(AssertionError):  # control: they matter
        torch.testing.assert_close(fused(input_ids=ids).logits, copied(input_ids=ids).logits, atol=1e-4, rtol=1e-3)
