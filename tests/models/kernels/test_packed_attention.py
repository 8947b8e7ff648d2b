"""Attention of a packed row against scaled dot products of each trace alone; first and second derivatives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from packed_batches import BATCHES, batch_of

from rairl_lightning.models.kernels import packed_attention
from rairl_lightning.models.packing import Packing
from rairl_lightning.native import attending, why_not

HEADS, GROUPS, SIZE, SCALE = 6, 2, 4, 0.3


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(attending, "available", lambda: False)
    elif not attending.available():
        pytest.skip(f"nothing compiled: {why_not('attending')}")
    return request.param


def inputs_of(packing: Packing, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (HEADS, GROUPS, GROUPS)
    return [torch.randn(len(packing.ids_M), heads, SIZE, generator=generator).requires_grad_() for heads in sizes]


def alone(packing: Packing, places_T: torch.Tensor, query, keys, values) -> torch.Tensor:
    q, k, v = (part[places_T].transpose(0, 1) for part in (query, keys, values))
    k, v = (part.repeat_interleave(HEADS // GROUPS, dim=0) for part in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE).transpose(0, 1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch", BATCHES)
def test_each_trace_reads_itself_alone(batch: str, side: str, way: str) -> None:
    tokens = batch_of(batch, side)
    packing = Packing.of(tokens)
    inputs = inputs_of(packing)
    ours = packed_attention.attend(*inputs, packing, SCALE)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros_like(ours)
    seen = torch.zeros(len(ours), dtype=torch.bool)
    for places_T, real_T in zip(packing.places_NT, tokens.attention_mask, strict=True):
        own = places_T[real_T]
        new = ~seen[own]  # a prompt counts once
        expected = expected.index_add(0, own[new], alone(packing, own, *inputs)[new])
        seen[own] = True
    assert bool(seen.all())
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    found, wanted = (torch.autograd.grad((weights * out).sum(), inputs) for out in (ours, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with pytest.raises(AssertionError):  # the tolerance tells another scale
        other = packed_attention.attend(*inputs, packing, 1.02 * SCALE)
        torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-5)


def test_a_second_derivative_is_the_derivative_of_the_first() -> None:
    packing = Packing.of(batch_of("groups", "right"))
    inputs = [one.detach().double().requires_grad_() for one in inputs_of(packing)]
    parts = tuple(
        packed_attention.Part(part.queries_RL, part.keys_RT, part.bias_RLT.double(), part.padding_RL)
        for part in packing.parts
    )
    layout = SimpleNamespace(parts=parts, order_M=packing.order_M)
    assert torch.autograd.gradgradcheck(
        lambda *given: packed_attention.attend(*given, layout, SCALE), inputs, fast_mode=True
    )


def test_second_derivatives_in_float32_are_those_in_float64(way: str) -> None:
    packing = Packing.of(batch_of("groups", "right"))
    found = []
    for inputs in (inputs_of(packing), [one.detach().double().requires_grad_() for one in inputs_of(packing)]):
        parts = tuple(
            packed_attention.Part(part.queries_RL, part.keys_RT, part.bias_RLT.to(inputs[0].dtype), part.padding_RL)
            for part in packing.parts
        )
        layout = SimpleNamespace(parts=parts, order_M=packing.order_M, plan=packing.plan)
        out = packed_attention.attend(*inputs, layout, SCALE)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        first = torch.autograd.grad((weights * out.square()).sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(one.square().sum() for one in first), inputs))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4 * float(other.abs().max()), rtol=0)


def test_compiled_code_is_called_where_it_is_there(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("attend", "attend_back"):
        run = getattr(attending, name)
        monkeypatch.setattr(attending, name, lambda *given, run=run, name=name: (calls.append(name), run(*given))[1])
    packing = Packing.of(batch_of("groups", "right"))
    inputs = inputs_of(packing)
    packed_attention.attend(*inputs, packing, SCALE).sum().backward()
    assert calls == (["attend", "attend_back"] if way == "compiled" else [])


def test_long_rows_are_for_compiled_code_other_types_and_autocast_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [torch.zeros(1)] * 3
    narrow = [one.bfloat16() for one in numbers]
    monkeypatch.setattr(attending, "available", lambda: True)
    assert packed_attention.suits(*numbers, width=packed_attention.MOST_KEYS + 1)
    assert not packed_attention.suits(*narrow, width=8)
    monkeypatch.setattr(attending, "available", lambda: False)
    assert packed_attention.suits(*numbers, width=packed_attention.MOST_KEYS)
    assert not packed_attention.suits(*numbers, width=packed_attention.MOST_KEYS + 1)
    assert not packed_attention.suits(*narrow, width=8)
    with torch.autocast("cpu", torch.bfloat16):
        assert not packed_attention.suits(*numbers, width=8)


def test_long_rows_give_what_short_ones_give(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way for long rows is another: both must agree on the same rows."""
    packing = Packing.of(batch_of("groups", "left"))
    inputs = [one.transpose(0, 1)[None] for one in inputs_of(packing)]
    short = packing.attend(*inputs, SCALE)
    monkeypatch.setattr(packed_attention, "MOST_KEYS", packing.width - 1)
    monkeypatch.setattr(attending, "available", lambda: False)
    assert not packed_attention.suits(*inputs, width=packing.width)
    torch.testing.assert_close(packing.attend(*inputs, SCALE), short, atol=1e-5, rtol=1e-5)


def test_values_of_another_width_than_keys_are_for_torch(way: str) -> None:
    """Compiled code takes both to be of one size, and would read past their end."""
    tokens = batch_of(next(iter(BATCHES)), "right")
    packing = Packing.of(tokens)
    query, keys, values = (one.detach() for one in inputs_of(packing))
    found = packed_attention.attend(query, keys, values[..., :3], packing, SCALE)
    wanted = packed_attention.attend(query, keys, values, packing, SCALE)[..., :3]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert packed_attention.suits(query, keys, values[..., :3], width=9)
    assert not packed_attention.suits(query, keys, values[..., :3], width=packed_attention.MOST_KEYS + 1)
