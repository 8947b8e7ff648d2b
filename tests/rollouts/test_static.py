"""What is particular to steps of fixed shapes; the contract itself is tested with the other samplers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from architectures import mistral

from rairl_lightning.errors import ConfigError, DataError, ModelError
from rairl_lightning.functional import onednn
from rairl_lightning.models import ModelPair, Policy
from rairl_lightning.models.decoding import static
from rairl_lightning.models.packed_reading import pack_if_possible
from rairl_lightning.rollouts import HFSampler, Sampler, StaticSampler
from rairl_lightning.types import Rollouts

Prompts = list[list[int]]
make = partial(StaticSampler, max_prompt_tokens=24)


@pytest.fixture(scope="session")
def pair(adapted: ModelPair) -> ModelPair:
    return adapted


@pytest.fixture(autouse=True)
def nothing_kept(pair: ModelPair) -> None:
    static._decoders.pop(pair.policy, None)


def sample(pair: ModelPair, prompts: Prompts, sampler: Sampler, group: int = 4, seed: int = 0) -> Rollouts:
    return sampler.sample(pair.policy, prompts, group, pair.codec, torch.Generator().manual_seed(seed))


def same(a: Rollouts, b: Rollouts) -> bool:
    return a.tokens.traces() == b.tokens.traces() and torch.allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each step that is made."""
    made: list[int] = []
    step = static.StaticDecoder.step

    def counted(self: static.StaticDecoder, ids_N: torch.Tensor, positions_N: torch.Tensor) -> torch.Tensor:
        made.append(len(ids_N))
        return step(self, ids_N, positions_N)

    monkeypatch.setattr(static.StaticDecoder, "step", counted)
    return made


@pytest.fixture
def inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch compiles, which ``conftest`` switches off, and layers are as on a GPU, which takes no path of ours."""
    monkeypatch.setattr(onednn, "suits", lambda *tensors: False)
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def compiling(inductor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch traces the step and guards it; what it would translate it into takes a minute here."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def graphs() -> int:
    """Compiled since the test began."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_sizes_are_halves() -> None:
    assert make(4, max_rows=64).sizes == (8, 16, 32, 64)
    assert make(4, max_rows=5, buckets=6).sizes == (1, 2, 3, 5)
    assert [make(4, max_rows=5, buckets=6).size_for(rows) for rows in (1, 2, 3, 4, 5)] == [1, 2, 3, 5, 5]


def test_steps_have_these_sizes_alone_and_shrink(pair: ModelPair, prompts: Prompts, steps: list[int]) -> None:
    sampler = make(130, max_rows=36, buckets=2)
    rollouts = sample(pair, prompts, sampler, group=12)
    assert same(rollouts, sample(pair, prompts, HFSampler(130), group=12))
    assert set(steps) == {36, 18} and steps == sorted(steps, reverse=True)
    assert len(steps) == int(rollouts.tokens.completion_lengths_N.max()) - 1, "it stops when all have ended"


def test_rows_need_not_fill_a_step(pair: ModelPair, prompts: Prompts, steps: list[int]) -> None:
    rollouts = sample(pair, prompts, make(12, max_rows=10, buckets=2))
    assert same(rollouts, sample(pair, prompts, HFSampler(12)))
    assert set(steps) == {10, 5} and len(rollouts) == 12


def test_nothing_of_an_earlier_round_is_read(pair: ModelPair, prompts: Prompts) -> None:
    """Neither longer prompts nor numbers that are not finite, which a mask alone would not keep out."""
    fresh = sample(pair, prompts[1:2], make(12))
    sample(pair, prompts, make(12))
    for layer in static._decoders[pair.policy].layers:
        for room in layer:
            room.data.fill_(torch.nan)
    assert same(sample(pair, prompts[1:2], make(12)), fresh)


def test_autocast_may_come_and_go(pair: ModelPair, prompts: Prompts) -> None:
    """A callback samples outside of the trainer's precision; keys and values are then of another type."""
    plain, cast = [], []
    for _ in range(2):
        plain.append(sample(pair, prompts, make(6), group=1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast.append(sample(pair, prompts, make(6), group=1))
            expected = sample(pair, prompts, HFSampler(6), group=1)
    assert same(*plain) and same(*cast)
    assert cast[0].texts == expected.texts
    torch.testing.assert_close(cast[0].logprobs, expected.logprobs, atol=2e-2, rtol=0)
    assert not torch.allclose(plain[0].logprobs, expected.logprobs, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_adapters_are_read_where_they_lie(pair: ModelPair, prompts: Prompts, compiled: bool, compiling: None) -> None:
    sampler = make(8, max_rows=12, buckets=1, compiled=compiled)
    before = {name: tensor.clone() for name, tensor in pair.adapter_state("policy").items()}
    first = sample(pair, prompts, sampler)
    kept = static._decoders[pair.policy]
    with torch._dynamo.config.patch(error_on_recompile=True):
        with torch.no_grad():
            for parameter in pair.trainable_parameters("policy"):
                parameter.mul_(1.5)
        second = sample(pair, prompts, sampler)
        expected = sample(pair, prompts, HFSampler(8))
        pair.load_adapter_state("policy", before)
    assert same(second, expected) and not same(second, first)
    assert static._decoders[pair.policy] is kept
    assert graphs() == int(compiled)


@pytest.mark.slow
def test_a_step_that_cannot_be_one_graph_is_an_error(
    pair: ModelPair, prompts: Prompts, compiling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = pair.policy.decoder.norm
    forward = norm.forward
    monkeypatch.setattr(norm, "forward", lambda x: (torch._dynamo.graph_break(), forward(x))[1])
    with pytest.raises(ModelError, match=r"cannot be compiled[\s\S]*compiled: false"):
        sample(pair, prompts, make(4, compiled=True))


@pytest.mark.slow
def test_inductor_compiles_the_step(pair: ModelPair, prompts: Prompts, inductor: None) -> None:
    compiled = sample(pair, prompts, make(12, max_rows=12, buckets=2, compiled=True))
    assert same(compiled, sample(pair, prompts, HFSampler(12))) and graphs() > 0


def test_a_prompt_too_long_is_refused_with_what_to_set(pair: ModelPair, prompts: Prompts) -> None:
    with pytest.raises(DataError, match="max_prompt_tokens"):
        sample(pair, prompts, StaticSampler(4, max_prompt_tokens=8))


def test_windows_are_refused(pair: ModelPair) -> None:
    causal_lm = mistral(sliding_window=4).eval()
    pack_if_possible(causal_lm)
    with pytest.raises(ConfigError, match="HFSampler"):
        make(4).sample(Policy(causal_lm), [[1, 2]], 1, pair.codec, torch.Generator())


def test_shards_are_refused(pair: ModelPair, prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.policy, "units", (object(),))
    with pytest.raises(ModelError, match="shards"):
        sample(pair, prompts, make(4))


@pytest.mark.parametrize("setting", [{"max_rows": None}, {"max_rows": 0}, {"max_prompt_tokens": 0}, {"buckets": 7}])
def test_settings_out_of_range_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        StaticSampler(4, **setting)
