"""transformers' continuous batching behind our contract; on a CPU, by sdpa."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch
import transformers

from rairl_lightning.errors import ConfigError, DataError, ModelError
from rairl_lightning.models import ModelPair
from rairl_lightning.rollouts import ContinuousSampler, HFSampler, Sampler
from rairl_lightning.rollouts.base import PartOfDraws, seeds
from rairl_lightning.types import Rollouts

Prompts = list[list[int]]


@pytest.fixture(scope="session")
def pair(adapted: ModelPair) -> ModelPair:
    return adapted


@pytest.fixture(scope="module", autouse=True)
def no_collections() -> Iterator[None]:
    """transformers collects garbage after each call: here, that would take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


def sample(
    pair: ModelPair, prompts: Prompts, sampler: Sampler, group: int = 3, seed: int = 0, temperature: float | None = None
) -> Rollouts:
    generator = torch.Generator().manual_seed(seed)
    return sampler.sample(pair.policy, prompts, group, pair.codec, generator, temperature=temperature)


@pytest.fixture(scope="module")
def sampled(pair: ModelPair, prompts: Prompts) -> Rollouts:
    return sample(pair, prompts, ContinuousSampler(20))


def test_rows_are_groups_of_their_prompt(pair: ModelPair, prompts: Prompts, sampled: Rollouts) -> None:
    for row, trace in enumerate(sampled.tokens.traces()):
        assert trace.prompt_ids == prompts[row // 3]
        ended = trace.completion_ids[-1] == pair.codec.eos_id
        assert pair.codec.eos_id not in trace.completion_ids[:-1]
        assert bool(sampled.finished[row]) == ended and (ended or len(trace.completion_ids) == 20)
    assert len(set(sampled.texts)) == len(sampled) == 9


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_the_adapted_policy(pair: ModelPair, prompts: Prompts, temperature: float) -> None:
    rollouts = sample(pair, prompts, ContinuousSampler(20, temperature=temperature), group=2)
    expected = pair.policy.score(rollouts.tokens, 4096, temperature).logprobs
    torch.testing.assert_close(rollouts.logprobs, expected, atol=1e-4, rtol=0)
    others = (
        pair.policy.score(rollouts.tokens, 4096, 1.1 * temperature).logprobs,
        pair.reference.score(rollouts.tokens, 4096, temperature).logprobs,
    )
    for other in others:
        with pytest.raises(AssertionError):
            torch.testing.assert_close(rollouts.logprobs, other, atol=1e-4, rtol=0)


def test_greedy_is_what_our_own_loop_takes(pair: ModelPair, prompts: Prompts) -> None:
    theirs, ours = (sample(pair, prompts, kind(20), group=1, temperature=0) for kind in (ContinuousSampler, HFSampler))
    assert theirs.tokens.traces() == ours.tokens.traces()
    torch.testing.assert_close(theirs.logprobs, ours.logprobs, atol=1e-4, rtol=0)


def test_the_generator_alone_decides_and_nothing_stays(pair: ModelPair, prompts: Prompts, sampled: Rollouts) -> None:
    attention, state, threads = (
        pair.policy.causal_lm.config._attn_implementation,
        torch.get_rng_state(),
        threading.active_count(),
    )
    pair.train()
    again, other = (sample(pair, prompts, ContinuousSampler(20), seed=seed) for seed in (0, 1))
    assert all(module.training for module in pair.policy.modules())
    pair.eval()
    assert again.texts == sampled.texts != other.texts
    assert torch.equal(torch.get_rng_state(), state)
    assert pair.policy.causal_lm.config._attn_implementation == attention
    assert threading.active_count() <= threads


def test_a_cache_too_small_for_all_at_once_makes_them_wait(pair: ModelPair, prompts: Prompts) -> None:
    small = ContinuousSampler(20, page_tokens=8, cache_tokens=64, step_tokens=16)
    greedy = [sample(pair, prompts, sampler, temperature=0) for sampler in (small, ContinuousSampler(20))]
    assert greedy[0].texts == greedy[1].texts


def test_what_cannot_be_sampled_is_an_error(pair: ModelPair, prompts: Prompts) -> None:
    with pytest.raises(ModelError, match="Continuous batching failed"):
        sample(pair, prompts, ContinuousSampler(200, page_tokens=4, cache_tokens=4, step_tokens=4))
    with pytest.raises(ModelError, match=r"Memory footprint[\s\S]*cache_tokens"):
        sample(pair, prompts, ContinuousSampler(4, cache_tokens=10**12))
    with pytest.raises(DataError, match="no tokens"):
        sample(pair, [[]], ContinuousSampler(4))
    assert len(sample(pair, [], ContinuousSampler(4))) == 0


def test_an_attention_that_is_not_installed_is_named(pair: ModelPair, prompts: Prompts) -> None:
    with pytest.raises(ConfigError, match="flash_attention_2"):
        sample(pair, prompts, ContinuousSampler(4, attention="flash_attention_2"))


@pytest.mark.parametrize(
    "setting", [{"temperature": -1.0}, {"top_p": 0.0}, {"attention": "eager"}, {"page_tokens": 1}, {"cache_tokens": 3}]
)
def test_settings_out_of_range_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        ContinuousSampler(4, **setting)


def test_an_older_transformers_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        def __init__(self, page_size: int, num_blocks: int, max_batch_tokens: int) -> None: ...

    monkeypatch.setattr(transformers, "ContinuousBatchingConfig", Older)
    with pytest.raises(ConfigError, match="without return_logprobs, seed, auto_switch_to_flash"):
        ContinuousSampler(4)


def test_seeds_of_a_part_are_that_part() -> None:
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    whole = seeds(generator(), 4, 3)
    assert len(set(whole)) == 12
    assert (
        seeds(PartOfDraws(generator(), 2, 4), 2, 3) == whole[6:] and seeds(PartOfDraws(generator(), 4, 4), 0, 3) == []
    )
