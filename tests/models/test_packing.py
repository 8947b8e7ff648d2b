"""A packed row gives what padded rows give, forward and backward, whatever shares what."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from architectures import gemma, llama, mistral, qwen2, qwen3
from packed_batches import BATCHES, batch_of

from rairl_lightning.models.budget import micro_batches
from rairl_lightning.models.loading import checkpoint_activations
from rairl_lightning.models.packed_reading import pack_if_possible, packs
from rairl_lightning.models.packing import Packing
from rairl_lightning.models.policy import hidden_states
from rairl_lightning.types import TokenBatch

MODELS = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3, "mistral": mistral, "gemma": gemma}


def model_of(name: str):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 1.0))
    model.eval()
    pack_if_possible(model)
    assert packs(model.get_decoder())
    return model


def padded(model, tokens: TokenBatch) -> torch.Tensor:
    return model.get_decoder()(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask.long(),
        position_ids=tokens.position_ids,
        use_cache=False,
    ).last_hidden_state.masked_fill(~tokens.attention_mask[..., None], 0.0)


def gradients(model, out: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad((weights * out).sum(), list(model.get_decoder().parameters())))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_the_padded_pass(name: str, batch: str, side: str) -> None:
    model, tokens = model_of(name), batch_of(batch, side)
    ours, theirs = hidden_states(model.get_decoder(), tokens), padded(model, tokens)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)
    scale = max(float(g.abs().max()) for g in gradients(model, theirs))
    for one, other in zip(gradients(model, ours), gradients(model, padded(model, tokens)), strict=True):
        torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=0)
    if len(tokens) > 1 and batch != "alike":
        with pytest.raises(AssertionError):  # the tolerance tells a trace from its neighbour
            torch.testing.assert_close(ours.roll(1, 0), theirs, atol=2e-4, rtol=2e-4)


def test_a_prompt_is_there_once_and_padding_never() -> None:
    groups, apart = (Packing.of(batch_of(name, "left")) for name in ("groups", "all apart"))
    assert len(groups.ids_M) == 9 + 3 + 5 + 1 + 7 + 4 + 2 and groups.completions is not None
    assert len(apart.ids_M) == 9 + 5 + 3 + 7 + 6 + 6 and apart.completions is None


def test_a_completion_does_not_see_another_of_its_prompt() -> None:
    model, tokens = model_of("llama"), batch_of("groups", "right")
    before = hidden_states(model.get_decoder(), tokens)
    changed = tokens.input_ids.clone()
    changed[1, 9] = 1 + int(changed[1, 9]) % 60
    other = TokenBatch(changed, tokens.attention_mask, tokens.completion_mask, tokens.step_ends, tokens.char_offsets)
    after = hidden_states(model.get_decoder(), other)
    same = [row for row in range(5) if row != 1]
    torch.testing.assert_close(after[same], before[same])
    assert not torch.allclose(after[1, 9], before[1, 9])
    torch.testing.assert_close(after[1, :9], before[1, :9])


def test_activation_checkpointing_recomputes_the_same() -> None:
    model, tokens = model_of("llama"), batch_of("groups", "right")
    expected = gradients(model, hidden_states(model.get_decoder(), tokens))
    checkpoint_activations(model)
    model.train()
    for one, other in zip(gradients(model, hidden_states(model.get_decoder(), tokens)), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_is_packed_too() -> None:
    model, tokens = model_of("qwen2"), batch_of("groups", "right")
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = hidden_states(model.get_decoder(), tokens), padded(model, tokens)
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()


@pytest.mark.parametrize(
    "model",
    [
        partial(mistral, sliding_window=4),
        partial(qwen2, use_sliding_window=True, sliding_window=4, max_window_layers=1),
        partial(llama, attn_implementation="eager"),
    ],
    ids=["mistral-window", "qwen2-window", "eager"],
)
def test_windows_and_a_chosen_attention_are_left_as_they_are(model) -> None:
    built = model().eval()
    before = built.config._attn_implementation
    pack_if_possible(built)
    assert built.config._attn_implementation == before and not packs(built.get_decoder())


def test_a_model_that_gives_something_else_when_packed_is_left_as_it_was() -> None:
    model = MODELS["llama"]().eval()
    plain = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: plain(x, position_ids + x.shape[1])
    attention = model.model.layers[0].self_attn.forward
    model.model.layers[0].self_attn.forward = lambda *a, packing=None, **k: attention(*a, **k)
    pack_if_possible(model)
    assert not packs(model.get_decoder())


def test_generation_goes_on_as_before() -> None:
    model = model_of("llama")
    ids = torch.tensor([[1, 2, 3]])
    packed = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    model.set_attn_implementation("sdpa")
    assert torch.equal(
        packed, model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_micro_batches_keep_prompts_together_and_split_changes_no_gradient(side: str) -> None:
    model, tokens = model_of("llama"), batch_of("groups", side)
    decoder = model.get_decoder()
    parts = micro_batches(decoder, tokens, 20)
    assert [rows.tolist() for rows in parts] == [[0, 3, 1], [2, 4]], "9 + 5 + 4 + 1 and 3 + 7 + 2 tokens"
    weights = torch.randn(5, 14, 32, generator=torch.Generator().manual_seed(1)) * tokens.attention_mask[..., None]
    shares = []
    for rows in parts:
        part, own = tokens.select_with(rows, weights)
        shares.append((hidden_states(decoder, part) * own).sum())
    leaves = list(decoder.parameters())
    whole = torch.autograd.grad((hidden_states(decoder, tokens) * weights).sum(), leaves)
    first, second = (torch.autograd.grad(share, leaves) for share in shares)
    scale = max(float(gradient.abs().max()) for gradient in whole)
    for one, other, both in zip(first, second, whole, strict=True):
        torch.testing.assert_close((one + other) / scale, both / scale, atol=1e-5, rtol=0)
    with pytest.raises(AssertionError):  # the tolerance tells a micro-batch left out
        torch.testing.assert_close(first[0] / scale, whole[0] / scale, atol=1e-5, rtol=0)
    model.set_attn_implementation("sdpa")
    assert max(len(rows) * int(tokens.lengths_N[rows].max()) for rows in micro_batches(decoder, tokens, 30)) <= 30
