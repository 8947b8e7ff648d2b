"""Steps by compiled code: against transformers, and that a row's numbers are that row's alone."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from architectures import llama, qwen2
from decoded import MODELS, add_second_adapter, policy_of
from peft import LoraConfig, get_peft_model

from rairl_lightning.models import Policy
from rairl_lightning.models.decoding import InPlace, LeanDecoder, Native, Packed, Session, finding, lean_decoder
from rairl_lightning.native import decoding, why_not

pytestmark = pytest.mark.skipif(not decoding.available(), reason=f"no compiled code here: {why_not('decoding')}")

# Wider than a block of inputs, no size a multiple of a panel, heads in groups of five and of a size that no vector has.
ODD = {
    "hidden_size": 5 * 54,
    "head_dim": 54,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "intermediate_size": 523,
    "vocab_size": 67,
}
LONG = [[7 * n % 61 for n in range(75)], [3, 4], [5 * n % 61 for n in range(33)]]


def native(policy: Policy) -> LeanDecoder:
    decoder = lean_decoder(policy, Native())
    assert decoder is not None and decoder.native is not None
    return decoder


def steps(decoder: LeanDecoder, tokens_TN: torch.Tensor, prompts: list[list[int]]) -> torch.Tensor:
    """Logits ``[T, N, V]`` after each token."""
    session = Session(decoder, prompts, tokens_TN.shape[1] // len(prompts), 0, torch.device("cpu"))
    found = []
    for tokens_N in tokens_TN:
        session.append(tokens_N)
        found.append(session.logits.clone())
    return torch.stack(found)


def expected(policy: Policy, tokens_TN: torch.Tensor, prompts: list[list[int]]) -> torch.Tensor:
    """The same by transformers, every row whole."""
    rows = []
    for n, tokens in enumerate(tokens_TN.T.tolist()):
        ids = prompts[n * len(prompts) // tokens_TN.shape[1]] + tokens
        rows.append(policy.causal_lm(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -len(tokens) :])
    return torch.stack(rows, dim=1)


def agree(found: torch.Tensor, wanted: torch.Tensor) -> None:
    scale = wanted.abs().max()
    torch.testing.assert_close(found / scale, wanted / scale, atol=1e-4, rtol=0)
    with pytest.raises(AssertionError):  # the tolerance tells a neighbour's row
        torch.testing.assert_close(found.roll(1, dims=1) / scale, wanted / scale, atol=1e-4, rtol=0)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("rank", [0, 3, 20], ids="r={}".format)
@pytest.mark.parametrize("rows", [1, 5, 13], ids="{} rows".format)
@torch.inference_mode()
def test_sizes_that_fill_neither_panels_nor_blocks_nor_tiles(rows: int, rank: int) -> None:
    policy = policy_of(llama(**ODD), lora=rank > 0, rank=rank)
    tokens_TN = torch.randint(61, (3, rows * len(LONG)))
    agree(steps(native(policy), tokens_TN, LONG), expected(policy, tokens_TN, LONG))


@torch.inference_mode()
def test_more_tokens_than_the_first_room_for_keys() -> None:
    policy = policy_of(MODELS["qwen3"]())
    tokens_TN = torch.randint(61, (140, 2))
    agree(steps(native(policy), tokens_TN, LONG[1:]), expected(policy, tokens_TN, LONG[1:]))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.bfloat16, decoding.BFLOAT16), (torch.float16, decoding.FLOAT16), (torch.float32, decoding.FLOAT32)],
    ids=["bfloat16", "float16", "float32"],
)
@torch.inference_mode()
def test_weights_are_held_in_the_bits_that_they_have(dtype: torch.dtype, kind: int) -> None:
    policy = policy_of(llama())
    for name, parameter in policy.named_parameters():
        if "lora" not in name:
            parameter.copy_((torch.randn_like(parameter) * 0.3).to(dtype))
    decoder, tokens_TN = native(policy), torch.randint(61, (3, 6))
    assert decoder.native is not None and decoder.native.structure.head.kind == kind
    agree(steps(decoder, tokens_TN, LONG), expected(policy, tokens_TN, LONG))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@torch.inference_mode()
def test_a_row_does_not_depend_on_the_others_nor_on_threads(name: str) -> None:
    """Bit for bit: whoever is beside it, and when they leave."""
    decoder = native(policy_of(MODELS[name](hidden_size=288, intermediate_size=300)))
    tokens_TN = torch.randint(61, (4, 12))
    together = steps(decoder, tokens_TN, LONG)
    for count in (1, 2, 3):
        with threads(count):
            assert torch.equal(steps(decoder, tokens_TN, LONG), together)
    first = steps(decoder, tokens_TN[:, :4], LONG[:1])
    assert torch.equal(first, together[:, :4]) and not torch.equal(first, together[:, 4:8])
    session = Session(decoder, LONG, 4, 0, torch.device("cpu"))
    session.append(tokens_TN[0])
    kept = torch.tensor([1, 3, 9])
    session.keep(kept)
    for step in (1, 2, 3):
        session.append(tokens_TN[step, kept])
        assert torch.equal(session.logits, together[step, kept])


@torch.inference_mode()
def test_threads_that_come_later_find_no_room_and_are_not_used() -> None:
    """What steps write to is laid out for the threads of the first."""
    decoder, tokens_TN = native(policy_of(MODELS["llama"]())), torch.randint(61, (3, 6))
    expected_TNV = steps(decoder, tokens_TN, LONG)
    with threads(1):
        session = Session(decoder, LONG, 2, 0, torch.device("cpu"))
        session.append(tokens_TN[0])
    with threads(4):
        session.append(tokens_TN[1])
        assert torch.equal(session.logits, expected_TNV[1])
        assert session.past._threads == 1  # type: ignore[attr-defined]


@torch.inference_mode()
def test_numbers_at_the_ends_of_the_exponential() -> None:
    """Gates of ±hundreds and attention that all goes to one key."""
    policy = policy_of(llama(), lora=False)
    for layer in policy.decoder.layers:
        layer.mlp.gate_proj.weight.mul_(300)
        layer.self_attn.q_proj.weight.mul_(100)
    tokens_TN = torch.randint(61, (4, 6))
    found = steps(native(policy), tokens_TN, LONG)
    assert found.isfinite().all()
    agree(found, expected(policy, tokens_TN, LONG))


@torch.inference_mode()
def test_adapters_of_now_of_several_and_of_none() -> None:
    policy = policy_of(MODELS["qwen2"]())
    model, found, tokens_TN = policy.model, [], torch.randint(61, (2, 6))
    add_second_adapter(policy)
    for adapters in (["default"], ["second"], ["default", "second"]):
        model.base_model.set_adapter(adapters)
        found.append(steps(native(policy), tokens_TN, LONG))
        agree(found[-1], expected(policy, tokens_TN, LONG))
    with model.disable_adapter():
        found.append(steps(native(policy), tokens_TN, LONG))
        agree(found[-1], expected(policy, tokens_TN, LONG))
    for one, other in itertools.pairwise(found):
        assert not torch.allclose(one, other, atol=1e-2)


@torch.inference_mode()
def test_weights_that_are_trained_are_those_of_now() -> None:
    policy, tokens_TN = policy_of(qwen2(), lora=False), torch.randint(61, (2, 6))
    before = steps(native(policy), tokens_TN, LONG)
    for parameter in policy.parameters():
        parameter.data.mul_(1.01)
    after = steps(native(policy), tokens_TN, LONG)
    agree(after, expected(policy, tokens_TN, LONG))
    assert not torch.allclose(before, after, atol=1e-2)


@torch.inference_mode()
def test_the_copy_goes_with_the_decoder() -> None:
    policy = policy_of(MODELS["llama"]())
    decoder = native(policy)
    session = Session(decoder, LONG, 2, 0, policy.device)
    gone = weakref.ref(decoder.native)
    del decoder
    session.append(torch.zeros(6, dtype=torch.int64))  # the session still needs it
    assert gone() is not None
    del session
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("more", [{"use_dora": True}, {"lora_bias": True}], ids=lambda more: next(iter(more)))
@torch.inference_mode()
def test_adapters_that_are_more_than_two_matrices_are_used_as_they_are(more: dict[str, bool]) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **more)
    decoder = lean_decoder(Policy(get_peft_model(MODELS["llama-biases-scaled-rope"](), config).eval()), Native())
    assert decoder is not None and isinstance(decoder.weights, InPlace) and decoder.native is None


@torch.inference_mode()
def test_without_a_compiler_weights_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "available", lambda: False)
    decoder = lean_decoder(policy_of(MODELS["llama"]()), Native(max_gib=1.0))
    assert decoder is not None and decoder.weights == Packed(max_gib=1.0) and decoder.native is None


@torch.inference_mode()
def test_code_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, plain = policy_of(MODELS["llama"]()), decoding.step

    def wrong(model, rows, room, logits, threads) -> None:
        plain(model, rows, room, logits, threads)
        logits[:, 0] += 1

    monkeypatch.setattr(decoding, "step", wrong)
    with pytest.warns(UserWarning, match="Compiled code computes something else"):
        decoder = lean_decoder(policy, Native())
    assert decoder is not None and decoder.weights == Packed() and decoder.native is None
    monkeypatch.setattr(decoding, "step", plain)
    assert lean_decoder(policy, Native()).weights == Packed(), "asked once"  # type: ignore[union-attr]
    finding._native_checked.pop(policy.causal_lm)
    assert lean_decoder(policy, Native()).native is not None  # type: ignore[union-attr]


@torch.inference_mode()
def test_every_shape_with_long_rows_and_many() -> None:
    for name, make in MODELS.items():
        policy, tokens_TN = policy_of(make()), torch.randint(61, (2, 63))
        found, wanted = steps(native(policy), tokens_TN, LONG), expected(policy, tokens_TN, LONG)
        assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max(), name


@pytest.mark.parametrize("make", [partial(llama, rms_norm_eps=0.5), partial(qwen2, rms_norm_eps=0.5)])
@torch.inference_mode()
def test_epsilon_is_the_models(make) -> None:
    policy, tokens_TN = policy_of(make()), torch.randint(61, (2, 6))
    agree(steps(native(policy), tokens_TN, LONG), expected(policy, tokens_TN, LONG))
