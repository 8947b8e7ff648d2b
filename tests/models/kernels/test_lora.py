"""The fused layer against PEFT's own, forward, backward and twice backward; and where it must step aside."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from rairl_lightning.models.kernels import lora
from rairl_lightning.models.kernels.lora import FusedLoRALinear, adapted


def layers(**settings: object) -> tuple[nn.Module, nn.Module]:
    """The same adapted layer, fused and as PEFT has it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_bias=True,
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    setting = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 5, "target_modules": "all-linear"} | settings
    wrapped = adapted(model, LoraConfig(**setting))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    fused = wrapped.get_base_model().model.layers[0].self_attn.q_proj
    plain = copy.deepcopy(fused)
    if type(fused) is FusedLoRALinear:
        plain.__class__ = PeftLinear
    return fused, plain


def everything(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients, and the gradient of a penalty on the input's gradient."""
    x = x.clone().requires_grad_()
    weights = [p for p in layer.parameters() if p.requires_grad]
    out = layer(x)
    first = torch.autograd.grad((out * out.detach().cos()).sum(), [x, *weights], retain_graph=True, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), weights)
    return [out, *first, *second]


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24)])
def test_it_is_pefts_layer_to_rounding(shape: tuple[int, ...]) -> None:
    fused, plain = layers()
    assert type(fused) is FusedLoRALinear and isinstance(fused, PeftLinear)
    x = torch.randn(shape)
    ours, theirs = everything(fused, x), everything(plain, x)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    fused.scaling["default"] *= 1.01
    with pytest.raises(AssertionError):  # the tolerance tells an adapter that is one per cent stronger
        torch.testing.assert_close(everything(fused, x)[0], theirs[0], atol=1e-4, rtol=1e-4)


def test_only_adapters_get_a_gradient_and_nothing_of_the_output_is_kept() -> None:
    fused, _ = layers()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        out = fused(torch.randn(50, 24))
    assert sum(kept) == 50 * 24 + 50 * 3 + 2 * 3 * 24, "input, inner product and the adapter"
    out.sum().backward()
    assert {name for name, p in fused.named_parameters() if p.grad is not None} == {
        "lora_A.default.weight",
        "lora_B.default.weight",
    }


def steps_aside(fused: nn.Module, plain: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the fused step was taken")

    monkeypatch.setattr(lora._LinearWithAdapter, "apply", forbidden)
    x = torch.randn(4, 24)
    torch.manual_seed(1)
    ours = fused(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, plain(x))


def test_dropout_dora_and_switched_off_adapters_are_left_to_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, plain = layers(lora_dropout=0.5)
    fused.train(), plain.train()
    steps_aside(fused, plain, monkeypatch)
    fused, plain = layers(use_dora=True)
    steps_aside(fused, plain, monkeypatch)
    fused, plain = layers()
    fused.enable_adapters(False), plain.enable_adapters(False)
    steps_aside(fused, plain, monkeypatch)


def test_autocast_is_left_to_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, plain = layers()
    with torch.autocast("cpu", torch.bfloat16):
        steps_aside(fused, plain, monkeypatch)


def test_saving_merging_and_copying_stay_pefts(tmp_path) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=11, hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2)
    )
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules="all-linear", init_lora_weights=False)
    ours, theirs = adapted(copy.deepcopy(model), config), get_peft_model(copy.deepcopy(model), config)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(copy.deepcopy(ours)(input_ids=ids).logits, theirs(input_ids=ids).logits)
    before = ours(input_ids=ids).logits
    torch.testing.assert_close(ours.merge_and_unload()(input_ids=ids).logits, before, atol=1e-5, rtol=1e-4)
