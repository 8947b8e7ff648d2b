"""The fused feed-forward part against transformers', up to second derivatives; and where it steps aside."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import gemma, llama, mistral, qwen2, qwen3
from compiled import without_compiled
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from rairl_lightning.models.kernels.layers import FusedGatedMLP, fuse_layers
from rairl_lightning.models.kernels.lora import adapted
from rairl_lightning.native import blocks, why_not

LORA = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules="all-linear")


def pair(build=llama, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """The same adapted model, with fused layers and with transformers' own."""
    torch.manual_seed(0)
    model: PreTrainedModel = build().to(dtype).requires_grad_(False)
    fused, plain = copy.deepcopy(model), model
    fuse_layers(fused)
    fused, plain = (adapted(one, copy.deepcopy(LORA)) for one in (fused, plain))
    with torch.no_grad():
        for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
            if "lora_" in name:
                one.copy_(torch.randn_like(one) * 0.3)
            other.copy_(one)
    return fused, plain


def fused_parts(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, FusedGatedMLP)]


def decoder_of(model: nn.Module) -> nn.Module:
    return model.get_base_model().get_decoder()


def everything(model: nn.Module, x: torch.Tensor, twice: bool) -> list[torch.Tensor]:
    """Output, gradients, and the gradients of a penalty on the input's gradient."""
    leaves = [x.clone().requires_grad_(), *(p for p in model.parameters() if p.requires_grad)]
    out = model(leaves[0])
    first = torch.autograd.grad((out * out.detach().cos()).sum(), leaves, create_graph=twice)
    return [out, *first, *(torch.autograd.grad(first[0].square().sum(), leaves) if twice else ())]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_it_is_transformers_own_to_rounding(twice: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        without_compiled(monkeypatch)
    elif not blocks.available():
        pytest.skip(f"nothing is compiled here: {why_not('blocks')}")
    models = pair()
    fused, plain = (decoder_of(model).layers[0].mlp for model in models)
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
    assert len(fused_parts(fused)) == len(decoder_of(fused).layers)
    ids = torch.arange(1, 13).view(2, 6)
    for model in (fused, plain):
        model(input_ids=ids).logits.cos().sum().backward()
    for (name, one), (_, other) in zip(fused.named_parameters(), plain.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(model: nn.Module) -> int:
        seen: dict[int, torch.Tensor] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.setdefault(t.data_ptr(), t), lambda t: t):
            out = model(torch.randn(40, decoder_of(whole).config.hidden_size).requires_grad_())
        assert out.requires_grad
        return sum(tensor.numel() for tensor in seen.values())

    whole, plain = pair()
    ours, theirs = (kept(decoder_of(model).layers[0].mlp) for model in (whole, plain))
    assert theirs - ours == 2 * 40 * decoder_of(whole).config.intermediate_size, "the gate's silu, and the product"


def test_other_formulas_and_other_types_are_left_alone() -> None:
    assert not fused_parts(pair(gemma)[0]), "its gate is a GELU"
    assert not fused_parts(pair(dtype=torch.bfloat16)[0])


def test_switched_off_adapters_are_off() -> None:
    fused, plain = pair()
    ids = torch.arange(1, 7)[None]
    with fused.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(fused(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    copied = copy.deepcopy(fused)
    torch.testing.assert_close(copied(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-4, rtol=1e-3)
    with fused.disable_adapter(), pytest.raises(AssertionError):  # control: they matter
        torch.testing.assert_close(fused(input_ids=ids).logits, copied(input_ids=ids).logits, atol=1e-4, rtol=1e-3)
