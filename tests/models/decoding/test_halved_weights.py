"""When a copy in 16 bits is made, kept, and made again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from decoded import MODELS, PROMPTS, policy_of
from torch import Tensor

from rairl_lightning.functional import halved
from rairl_lightning.models import Policy
from rairl_lightning.models.decoding import Halved, lean_decoder

pytestmark = pytest.mark.skipif(not halved.available(), reason="this torch has no FBGEMM: nothing is halved")

Made = list[weakref.ref]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """The copies made since."""
    found: Made = []
    plain: Callable[..., None] = halved.HalvedLinear.__init__

    def making(self: halved.HalvedLinear, *given: Any) -> None:
        plain(self, *given)
        found.append(weakref.ref(self))

    monkeypatch.setattr(halved.HalvedLinear, "__init__", making)
    yield found


@torch.inference_mode()
def logits(policy: Policy, weights: Halved) -> Tensor:
    decoder = lean_decoder(policy, weights)
    assert decoder is not None and isinstance(decoder.weights, Halved)
    return decoder.logits(decoder.read(torch.tensor([PROMPTS[0]]))[0])


@torch.inference_mode()
def expected(policy: Policy) -> Tensor:
    return policy.causal_lm(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits[0]


def same(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3)


def copies(policy: Policy) -> int:
    return 1 + 4 * len(policy.decoder.layers)


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_of_every_shape_is_halved(name: str, made: Made) -> None:
    policy = policy_of(MODELS[name](), rank=1)
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == copies(policy)


def test_a_copy_is_kept_while_the_adapters_learn(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), rank=1)
    before = logits(policy, Halved())
    assert len(made) == copies(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    after = logits(policy, Halved())
    assert same(after, expected(policy)) and not torch.allclose(before, after, atol=1e-1)
    assert len(made) == copies(policy)
    del policy
    gc.collect()
    assert not any(one() for one in made)


def test_a_copy_of_weights_that_were_written_to_is_made_again(made: Made) -> None:
    policy = policy_of(MODELS["llama-biases-scaled-rope"](), rank=1)
    logits(policy, Halved())
    layer = policy.decoder.layers[1]
    with torch.no_grad():
        layer.mlp.down_proj.base_layer.weight.mul_(-2)
        layer.self_attn.v_proj.base_layer.bias.add_(1)
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == copies(policy) + 2


def test_a_write_through_data_is_seen_too(made: Made) -> None:
    """As peft's merge_and_unload makes it, which leaves a tensor's version alone."""
    policy = policy_of(MODELS["llama"](), rank=1)
    logits(policy, Halved())
    weight = policy.decoder.layers[1].mlp.down_proj.base_layer.weight
    version = weight._version
    weight.data.mul_(-2)
    assert weight._version == version
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == copies(policy) + 1


def test_layers_whose_adapters_are_as_much_to_read_are_packed(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), rank=8)
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == 1, "the head has no adapter"


def test_it_need_not_be_kept(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), rank=1)
    for calls in (1, 2):
        logits(policy, Halved(kept=False))
        gc.collect()
        assert len(made) == calls * copies(policy) and not any(one() for one in made)


def test_whether_16_bits_suffice_is_asked_again_after_a_change(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), rank=1)
    logits(policy, Halved(kept=False))
    with torch.no_grad():
        policy.decoder.layers[0].mlp.down_proj.base_layer.weight.mul_(1.1)
    assert same(logits(policy, Halved(kept=False)), expected(policy))
    assert len(made) == 2 * copies(policy) - 1


def test_what_16_bits_cannot_hold_is_packed(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), rank=1)
    down = policy.decoder.layers[0].mlp.down_proj.base_layer
    with torch.no_grad():
        down.weight.mul_(1.1)
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == copies(policy) - 1


def test_what_learns_is_packed(made: Made) -> None:
    policy = policy_of(MODELS["llama"](), lora=False)
    assert same(logits(policy, Halved()), expected(policy))
    assert not made
    policy.requires_grad_(False)
    assert same(logits(policy, Halved()), expected(policy))
    assert len(made) == copies(policy)


def test_two_adapters_at_once_and_one_switched_off() -> None:
    policy = policy_of(MODELS["qwen2"](), rank=1)
    model = policy.model
    model.add_adapter("second", model.peft_config["default"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "second" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    found = []
    for adapters in (["default"], ["second"], ["default", "second"]):
        model.base_model.set_adapter(adapters)
        model.requires_grad_(False)
        found.append(logits(policy, Halved()))
        assert same(found[-1], expected(policy))
    assert not torch.allclose(found[0], found[1], atol=1e-1) and not torch.allclose(found[1], found[2], atol=1e-1)
    with model.disable_adapter():
        assert same(logits(policy, Halved()), expected(policy))
