"""The lean pass against transformers' own, for every shape it takes; and that it leaves alone what it does not."""

from __future__ import annotations

import gc
import warnings
import weakref
from functools import partial

import pytest
import torch
from architectures import gemma, llama, mistral, qwen2
from decoded import MODELS, PROMPTS, add_second_adapter, policy_of
from peft import LoraConfig, get_peft_model

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import onednn
from rairl_lightning.models import Policy
from rairl_lightning.models.decoding import DynamicInt8, InPlace, Native, Packed, Session, lean_decoder

WEIGHTS = {"native": Native(), "packed": Packed(), "in-place": InPlace()}


def whole(policy: Policy, ids: list[int]) -> torch.Tensor:
    return policy.causal_lm(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_every_step_is_what_transformers_computes(name: str, weights: str) -> None:
    """Prompts of different lengths, uneven groups after rows leave, and a prompt that no row is left of."""
    policy = policy_of(MODELS[name]())
    decoder = lean_decoder(policy, WEIGHTS[weights])
    assert decoder is not None
    session = Session(decoder, PROMPTS, 3, pad_id=0, device=policy.device)
    written: dict[int, list[int]] = {row: list(PROMPTS[row // 3]) for row in range(9)}

    def check() -> None:
        expected = torch.stack([whole(policy, written[row]) for row in session.rows.tolist()])
        scale = expected.abs().max()
        torch.testing.assert_close(session.logits / scale, expected / scale, atol=2e-5, rtol=0)
        with pytest.raises(AssertionError):  # the tolerance tells a neighbour's row
            torch.testing.assert_close(session.logits.flip(0) / scale, expected / scale, atol=2e-5, rtol=0)

    check()
    for kept in (None, [0, 1, 2, 4, 6, 8], None, [1, 4, 5], [0, 2]):
        if kept is not None:
            session.keep(torch.tensor(kept))
        tokens = torch.tensor([(7 * row + len(written[row])) % 61 for row in session.rows.tolist()])
        for row, token in zip(session.rows.tolist(), tokens.tolist(), strict=True):
            written[row].append(token)
        session.append(tokens)
        check()
    assert session.rows.tolist() == [1, 8]


@torch.inference_mode()
def test_autocast_narrows_products_and_not_the_residual_stream() -> None:
    policy = Policy(llama(num_hidden_layers=6, hidden_size=64, initializer_range=0.1).eval())
    ids = torch.arange(1, 24)[None]
    exact = policy.causal_lm(input_ids=ids, use_cache=False).logits
    with torch.autocast("cpu", torch.bfloat16):
        decoder = lean_decoder(policy, Packed())
        assert decoder is not None and isinstance(decoder.weights, InPlace)
        hidden = decoder.read(ids)
        ours, theirs = decoder.logits(hidden), policy.causal_lm(input_ids=ids, use_cache=False).logits.float()
    assert hidden.dtype == torch.float32 and torch.equal(ours.view_as(theirs), theirs)
    assert not torch.allclose(ours.view_as(exact), exact, atol=1e-3), "autocast rounds"


@torch.inference_mode()
def test_a_model_of_16_bits_rounds_where_transformers_does() -> None:
    model = llama(num_hidden_layers=6, hidden_size=64, initializer_range=0.1).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.copy_(torch.rand_like(weight) + 0.5)
    model = model.to(torch.bfloat16)
    policy, ids = Policy(model), torch.arange(1, 24)[None]
    decoder = lean_decoder(policy, InPlace())
    assert decoder is not None
    norm, x = model.model.norm, torch.randn(5, 64, dtype=torch.bfloat16)
    assert torch.equal(decoder.norm(x), norm(x))
    ours, theirs = decoder.logits(decoder.read(ids)), model(input_ids=ids, use_cache=False).logits.float()
    exact = model.float()(input_ids=ids, use_cache=False).logits
    ours, allowed = ours.view_as(exact), 1.3 * (theirs - exact).abs().mean()
    assert (ours - exact).abs().mean() < allowed
    assert (ours.roll(1, dims=1) - exact).abs().mean() > 10 * allowed, "it tells a neighbour's token"


@torch.inference_mode()
def test_own_tokens_may_outgrow_a_block_of_the_cache() -> None:
    policy = policy_of(MODELS["llama"]())
    decoder = lean_decoder(policy, Packed())
    assert decoder is not None
    session, ids = Session(decoder, [[1, 2]], 1, 0, policy.device), [1, 2]
    for step in range(70):
        ids.append(step % 61)
        session.append(torch.tensor([ids[-1]]))
    torch.testing.assert_close(session.logits[0], whole(policy, ids), atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN operators: nothing is packed")
@torch.inference_mode()
def test_a_copy_has_the_adapters_of_now_and_does_not_stay() -> None:
    policy = policy_of(MODELS["qwen2"]())
    ids = torch.tensor([PROMPTS[0]])

    def logits() -> torch.Tensor:
        decoder = lean_decoder(policy, Packed())
        assert decoder is not None and isinstance(decoder.weights, Packed)
        held.append(weakref.ref(decoder.layers[0].down))
        return decoder.logits(decoder.read(ids)[0])

    held: list[weakref.ref] = []
    before = logits()
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05)
    after = logits()
    expected = policy.causal_lm(input_ids=ids, use_cache=False).logits[0]
    torch.testing.assert_close(after, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(before, after, atol=1e-1)
    gc.collect()
    assert [one() for one in held] == [None, None]


@torch.inference_mode()
def test_adapters_switched_off_or_absent() -> None:
    policy = policy_of(MODELS["llama"]())
    ids = torch.tensor([PROMPTS[0]])
    with policy.model.disable_adapter():
        decoder = lean_decoder(policy, Packed())
        assert decoder is not None
        bare = policy.causal_lm(input_ids=ids, use_cache=False).logits[0]
        torch.testing.assert_close(decoder.logits(decoder.read(ids)[0]), bare, atol=1e-3, rtol=1e-3)
    assert lean_decoder(policy_of(MODELS["llama"](), lora=False), Packed()) is not None


@torch.inference_mode()
def test_two_adapters_at_once() -> None:
    policy = policy_of(MODELS["qwen2"]())
    model, ids, found = policy.model, torch.tensor([PROMPTS[0]]), []
    add_second_adapter(policy)
    for adapters in (["default"], ["second"], ["default", "second"]):
        model.base_model.set_adapter(adapters)
        decoder = lean_decoder(policy, Packed())
        assert decoder is not None
        found.append(decoder.logits(decoder.read(ids)[0]))
        expected = policy.causal_lm(input_ids=ids, use_cache=False).logits[0]
        torch.testing.assert_close(found[-1], expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found[0], found[1], atol=1e-1) and not torch.allclose(found[1], found[2], atol=1e-1)


@pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN operators: nothing is rounded")
@torch.inference_mode()
def test_eight_bits_are_near_and_not_equal() -> None:
    policy = policy_of(MODELS["llama"]())
    ids = torch.tensor([PROMPTS[0]])
    rounded, exact = lean_decoder(policy, DynamicInt8()), lean_decoder(policy, InPlace())
    assert rounded is not None and exact is not None and isinstance(rounded.weights, DynamicInt8)
    ours, theirs = (one.logits(one.read(ids)[0]).log_softmax(-1) for one in (rounded, exact))
    gap = (ours - theirs).abs().mean() / theirs.std()
    assert 1e-4 < gap < 0.1


def test_a_copy_that_would_be_too_large_is_not_made() -> None:
    policy = policy_of(MODELS["llama"]())
    with torch.inference_mode():
        decoder = lean_decoder(policy, Packed(max_gib=1e-5))
    assert decoder is not None and isinstance(decoder.weights, InPlace)
    with pytest.raises(ConfigError):
        Packed(max_gib=0.0)


@pytest.mark.parametrize("more", [{"use_dora": True}, {"lora_bias": True}], ids=lambda more: next(iter(more)))
def test_adapters_that_are_more_than_two_matrices_are_used_as_they_are(more: dict[str, bool]) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **more)
    policy = Policy(get_peft_model(MODELS["llama-biases-scaled-rope"](), config).eval())
    with torch.inference_mode():
        decoder = lean_decoder(policy, Packed())
    assert decoder is not None and isinstance(decoder.weights, InPlace)


def test_merged_layers_are_used_as_they_are() -> None:
    policy = policy_of(MODELS["llama"]())
    ids = [5, 6, 7]
    with torch.inference_mode():
        before = whole(policy, ids)
    policy.decoder.layers[1].mlp.down_proj.merge()
    with torch.inference_mode():
        decoder = lean_decoder(policy, Packed())
        assert decoder is not None and isinstance(decoder.weights, InPlace)
        after = decoder.logits(decoder.read(torch.tensor([ids]))[0, -1:])[0]
    torch.testing.assert_close(after, before, atol=2e-5 * float(before.abs().max()), rtol=0)


@pytest.mark.parametrize(
    "model",
    [
        gemma,
        partial(mistral, sliding_window=4),
        partial(qwen2, use_sliding_window=True, sliding_window=4, max_window_layers=1),
        partial(llama, hidden_act="gelu"),
    ],
    ids=["gemma", "mistral-window", "qwen2-window", "gelu"],
)
def test_models_of_another_shape_are_left_to_transformers(model) -> None:
    policy = policy_of(model(), lora=False)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        assert lean_decoder(policy, Packed()) is None


def test_a_model_that_only_looks_like_a_llama_is_found_out() -> None:
    model = MODELS["llama"]()
    policy = policy_of(model, lora=False)
    layer = model.model.layers[1]
    plain = layer.mlp.forward
    layer.mlp.forward = lambda x: 1.1 * plain(x)
    with torch.inference_mode():
        with pytest.warns(UserWarning, match="computes something else"):
            assert lean_decoder(policy, Packed()) is None
        assert lean_decoder(policy, Packed()) is None  # and said once
