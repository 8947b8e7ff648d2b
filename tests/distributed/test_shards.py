"""What lies where under FSDP2, and how it comes back whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from rairl_lightning.errors import ModelError
from rairl_lightning.functional import shards
from rairl_lightning.models import sharding
from rairl_lightning.models.decoding import InPlace, lean_decoder
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.types import TokenBatch


def mesh() -> Any:
    distributed.init_process_group("gloo")
    return init_device_mesh("cpu", (distributed.get_world_size(),))


def trained_pair(base: Path) -> ModelPair:
    """Adapters that do something."""
    pair = gates.shared(base).build()
    torch.manual_seed(1)
    for player in pair.players:
        for parameter in pair.trainable_parameters(player):
            nn.init.normal_(parameter, std=0.1)
    return pair


def scores(pair: ModelPair) -> dict[str, torch.Tensor]:
    traces = [pair.codec.encode_demonstration(gates.solution(gate)) for gate in (1, 2, 3)]
    tokens = TokenBatch.from_traces(traces, pair.codec.pad_id)
    with torch.no_grad():
        return {
            "policy": pair.policy.logprobs(tokens).logprobs,
            "reference": pair.reference.logprobs(tokens).logprobs,
            "discriminator": pair.discriminator(tokens),
        }


def described(pair: ModelPair) -> dict[str, float]:
    """Share of the blocks' weights that lies here, and outside of them."""
    named = dict(pair.named_parameters())
    kinds: dict[str, list[int]] = {"blocks": [0, 0], "outside": [0, 0]}
    for name, parameter in named.items():
        kind = kinds["blocks" if ".layers." in name else "outside"]
        kind[0] += shards.local(parameter).numel()
        kind[1] += parameter.numel()
    return {name: here / everywhere for name, (here, everywhere) in kinds.items()}


def split(base: Path) -> Callable[[int], dict[str, Any]]:
    def function(rank: int) -> dict[str, Any]:
        where, pair = mesh(), trained_pair(base)
        before, state = scores(pair), {role: pair.adapter_state(role) for role in pair.players}
        state = {role: {name: tensor.clone() for name, tensor in own.items()} for role, own in state.items()}
        pair.shard(where, anchors=True)
        out: dict[str, Any] = {"before": before, "after": scores(pair), "held": described(pair)}
        pair.check_sharing()
        with pair.policy.gathered():
            out["gathered"] = {name: not shards.is_sharded(p) for name, p in pair.policy.named_parameters()}
            if rank == 0:  # no other process takes part in this pass
                with torch.inference_mode():
                    out["alone"] = pair.policy.logprobs(_tokens(pair)).logprobs.clone()
        out["again"] = described(pair)
        out["kept"] = all(torch.equal(pair.adapter_state(r)[n], t) for r, own in state.items() for n, t in own.items())
        doubled = {name: 2 * tensor for name, tensor in state["policy"].items()}
        pair.load_adapter_state("policy", doubled)
        out["loaded"] = all(torch.equal(pair.adapter_state("policy")[name], t) for name, t in doubled.items())
        pair.anchor_reference()
        anchored = scores(pair)
        out["anchored"] = float((anchored["policy"] - anchored["reference"]).abs().max())
        out["lean"] = lean_decoder(pair.policy, InPlace()) is not None
        return out

    return function


def _tokens(pair: ModelPair) -> TokenBatch:
    return TokenBatch.from_traces([pair.codec.encode_demonstration(gates.solution(1))], pair.codec.pad_id)


def test_each_process_holds_half_of_the_blocks_and_computes_the_same(base: Path, tmp_path: Path, runs: Any) -> None:
    first, second = runs.spread(split(base), tmp_path)
    assert first["held"]["blocks"] + second["held"]["blocks"] == 1 and first["held"]["outside"] == 1
    assert first["held"]["blocks"] == pytest.approx(0.5, abs=0.01), "odd sizes cannot be halved"
    assert first["again"] == first["held"]
    for told in (first, second):
        for role, expected in told["before"].items():
            torch.testing.assert_close(told["after"][role], expected, atol=1e-5, rtol=1e-5)
        assert all(told["gathered"].values()) and told["kept"] and told["loaded"] and not told["lean"]
        assert told["anchored"] == 0
    width = first["alone"].shape[1]
    torch.testing.assert_close(first["alone"][0], first["before"]["policy"][0, :width], atol=1e-5, rtol=1e-5)


def spoilt(base: Path) -> Callable[[int], dict[str, bool]]:
    def function(rank: int) -> dict[str, bool]:
        where, pair = mesh(), trained_pair(base)
        with pytest.raises(ModelError, match="computes something else"):
            pair.shard(where, anchors=False)
        return {"refused": True}

    return function


def test_weights_that_come_back_as_garbage_are_refused(
    base: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_blocks = sharding._shard_blocks

    def wrong(decoder: nn.Module, where: Any) -> list[Any]:
        units = list(shard_blocks(decoder, where))
        with torch.no_grad():
            frozen = next(p for p in decoder.layers[0].parameters() if not p.requires_grad)
            shards.local(frozen).mul_(1.1)
        return units

    monkeypatch.setattr(sharding, "_shard_blocks", wrong)
    assert runs.spread(spoilt(base), tmp_path) == [{"refused": True}] * 2


def without_room(base: Path) -> Callable[[int], dict[str, bool]]:
    def function(rank: int) -> dict[str, bool]:
        where, pair = mesh(), trained_pair(base)
        pair.shard(where, anchors=False)
        with pytest.raises(ModelError, match=r"sft\.epochs"):
            pair.anchor_reference()
        return {"refused": True}

    return function


def test_a_reference_without_room_cannot_be_anchored(base: Path, tmp_path: Path, runs: Any) -> None:
    assert runs.spread(without_room(base), tmp_path) == [{"refused": True}] * 2


def test_a_model_without_known_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="_no_split_modules"):
        list(sharding._shard_blocks(nn.Linear(2, 2), None))


def clipped(rank: int) -> dict[str, Any]:
    """Gradients of a parameter in shards and of a whole one; moments of both."""
    where = mesh()
    values = [torch.arange(6.0).reshape(3, 2), torch.ones(2)]
    parts = [nn.Parameter(distribute_tensor(values[0], where, [Shard(0)])), nn.Parameter(values[1].clone())]
    for parameter, value in zip(parts, values, strict=True):
        parameter.grad = shards.placed_like(value + 1, parameter)
    norm = shards.clip_gradients(parts, 2.0)
    optimizer = torch.optim.AdamW(parts, lr=0.1)
    optimizer.step()
    state = shards.optimizer_state(optimizer)
    other = torch.optim.AdamW(parts, lr=0.3)
    shards.load_optimizer_state(other, state)
    again = shards.optimizer_state(other)
    return {
        "norm": norm,
        "gradients": [shards.whole(one.grad) for one in parts],
        "moments": [state["state"][index]["exp_avg"] for index in range(2)],
        "sharded": shards.is_sharded(other.state[parts[0]]["exp_avg"]),
        "again": [again["state"][index]["exp_avg"] for index in range(2)],
        "rate": again["param_groups"][0]["lr"],
    }


def test_norms_and_moments_are_those_of_whole_tensors(tmp_path: Path, runs: Any) -> None:
    parts = [nn.Parameter(torch.arange(6.0).reshape(3, 2)), nn.Parameter(torch.ones(2))]
    for parameter in parts:
        parameter.grad = parameter.detach() + 1
    norm = float(nn.utils.clip_grad_norm_(parts, 2.0))
    optimizer = torch.optim.AdamW(parts, lr=0.1)
    optimizer.step()
    for told in runs.spread(clipped, tmp_path):
        assert told["norm"] == pytest.approx(norm) and told["sharded"] and told["rate"] == 0.1
        for index, parameter in enumerate(parts):
            torch.testing.assert_close(told["gradients"][index], parameter.grad)
            torch.testing.assert_close(told["moments"][index], optimizer.state[parameter]["exp_avg"])
            assert torch.equal(told["moments"][index], told["again"][index])
