from collections import Counter
from functools import partial

import pytest
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.rollouts import HFSampler, InPlace, SharedPrefixSampler, StaticSampler
from rairl_lightning.rollouts.base import PartOfDraws, uniforms
from rairl_lightning.rollouts.drawing import draw

KINDS = {
    "hf": HFSampler,
    "packed": SharedPrefixSampler,
    "in-place": partial(SharedPrefixSampler, weights=InPlace()),
    "static": partial(StaticSampler, max_prompt_tokens=24),
}


make = HFSampler


# It shares its loop and its prompts' reading with "hf"; what is its own has tests of its own.
SLOW = {"static"}


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS], autouse=True)
def sampler(request, monkeypatch):
    """Every test here holds for every sampler of ours."""
    monkeypatch.setitem(globals(), "make", KINDS[request.param])


ONCE = pytest.mark.parametrize("sampler", ["hf"], indirect=True)
"""Of a test that asks no sampler, or all of them."""


def sample(pair, prompts, group=4, seed=0, new=12, **settings):
    return make(new, **settings).sample(pair.policy, prompts, group, pair.codec, torch.Generator().manual_seed(seed))


def same(a, b):
    return a.tokens.traces() == b.tokens.traces() and torch.allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_greedy_is_what_transformers_generates(pair, prompts):
    ours = sample(pair, prompts, group=1, temperature=0, new=20)
    for prompt, trace in zip(prompts, ours.tokens.traces(), strict=True):
        ids = torch.tensor([prompt])
        whole = pair.policy.causal_lm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=pair.codec.eos_id,
            pad_token_id=pair.codec.pad_id,
        )
        assert trace.completion_ids == whole[0, len(prompt) :].tolist()


def test_rows_are_groups_of_their_prompt(pair, prompts):
    rollouts = sample(pair, prompts)
    assert len(rollouts) == 12 and rollouts.group_size == 4
    for row, trace in enumerate(rollouts.tokens.traces()):
        assert trace.prompt_ids == prompts[row // 4]
        assert 1 <= len(trace.completion_ids) <= 12
        finished = trace.completion_ids[-1] == pair.codec.eos_id
        assert bool(rollouts.finished[row]) == finished and (finished or len(trace.completion_ids) == 12)
        assert pair.codec.eos_id not in trace.completion_ids[:-1]
        assert rollouts.texts[row] == pair.codec.decode(trace.completion_ids)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_what_the_policy_says_afterwards(pair, prompts, temperature):
    rollouts = sample(pair, prompts, temperature=temperature, new=24)
    again = pair.policy.logprobs(rollouts.tokens, temperature=temperature).logprobs
    torch.testing.assert_close(rollouts.logprobs, again.detach(), atol=1e-4, rtol=0)
    other = pair.policy.logprobs(rollouts.tokens, temperature=1.1 * temperature).logprobs
    with pytest.raises(AssertionError):
        torch.testing.assert_close(rollouts.logprobs, other.detach(), atol=1e-4, rtol=0)


def test_greedy_records_logprobs_at_temperature_one(pair, prompts):
    rollouts = sample(pair, prompts, temperature=0)
    again = pair.policy.logprobs(rollouts.tokens).logprobs
    torch.testing.assert_close(rollouts.logprobs, again.detach(), atol=1e-4, rtol=0)


def test_the_generator_alone_decides(pair, prompts):
    before = torch.get_rng_state()
    first, second, other = (sample(pair, prompts, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, second) and not same(first, other)


def test_dropping_finished_rows_changes_no_token(pair, prompts):
    kept = sample(pair, prompts, group=8, new=60, compact_below=0)
    assert int(kept.finished.sum()) > 0 and len(set(kept.tokens.completion_lengths_N.tolist())) > 3
    for threshold in (0.5, 1.0):
        assert same(kept, sample(pair, prompts, group=8, new=60, compact_below=threshold))


@pytest.mark.parametrize("max_rows", [1, 3, 4, 8, 100])
def test_passes_cover_every_row_in_order(max_rows):
    prompts = [[1], [2, 3], [4]]
    passes = list(make(1, max_rows=max_rows)._passes(prompts, 4))
    assert all(len(part) * count <= max_rows for part, count in passes)
    assert [p for part, count in passes for p in part for _ in range(count)] == [p for p in prompts for _ in range(4)]


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_the_passes_change_no_trace(pair, prompts, temperature):
    whole = sample(pair, prompts, new=8, temperature=temperature)
    for max_rows in (3, 5):  # three of a group and one; a group at a time
        assert same(whole, sample(pair, prompts, new=8, temperature=temperature, max_rows=max_rows))


@ONCE
def test_a_part_of_the_draws_is_that_part():
    def generator():
        return torch.Generator().manual_seed(1)

    whole = uniforms(generator(), 5, 4, 3)
    assert torch.equal(uniforms(PartOfDraws(generator(), 2, 4), 5, 2, 3), whole[:, 6:])
    assert torch.equal(uniforms(PartOfDraws(generator(), 4, 4), 5, 0, 3), whole[:, 12:])
    assert whole.shape == (5, 12) and whole.unique().numel() == 60 and whole.min() > 0 and whole.max() <= 1


def test_sampling_leaves_modes_and_tensors_fit_for_training(pair, prompts):
    pair.train()
    rollouts = sample(pair, prompts)
    assert all(module.training for module in pair.policy.modules())
    statistics = pair.policy.logprobs(rollouts.tokens)
    (statistics.logprobs * rollouts.logprobs.exp()).sum().backward()
    pair.zero_grad()
    pair.eval()


def test_activation_checkpointing_rests_while_sampling(pair, prompts):
    expected = sample(pair, prompts)
    pair.train()
    pair.policy.causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
    assert same(sample(pair, prompts), expected)
    pair.policy.causal_lm.gradient_checkpointing_disable()
    pair.eval()


def test_temperature_may_be_overridden(pair, prompts):
    sampler, generator = make(6, temperature=1.0), torch.Generator()
    greedy = sampler.sample(pair.policy, prompts, 2, pair.codec, generator, temperature=0.0)
    assert same(greedy, sample(pair, prompts, group=2, new=6, temperature=0))


def test_no_prompts_give_no_rollouts(pair):
    assert len(sample(pair, [])) == 0


def test_an_empty_prompt_is_refused(pair):
    with pytest.raises(DataError, match="no tokens"):
        sample(pair, [[1], []])


@pytest.mark.parametrize("setting", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_rows": 0}, {"compact_below": 2.0}])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make(4, **setting)


LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, -30.0, 1.0])


def frequencies(temperature, top_p=1.0, draws=20_000):
    uniforms = 1 - torch.rand(draws, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = draw(LOGITS.expand(draws, -1), uniforms, temperature, top_p)
    return Counter(tokens.tolist()), tokens, logprobs


def p_value(counts, probabilities, draws=20_000):
    seen = [i for i, p in enumerate(probabilities.tolist()) if p * draws > 1]
    expected = probabilities[seen] / probabilities[seen].sum() * sum(counts[i] for i in seen)
    observed = torch.tensor([counts[i] for i in seen], dtype=torch.float64)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(seen) - 1) / 2, dtype=torch.float64), chi_square / 2))


@ONCE
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_follow_the_distribution(temperature):
    counts, tokens, logprobs = frequencies(temperature)
    assert p_value(counts, (LOGITS.double() / temperature).softmax(-1)) > 1e-3
    assert p_value(counts, (LOGITS.double() / (temperature * 1.1)).softmax(-1)) < 1e-6
    torch.testing.assert_close(logprobs, (LOGITS / temperature).log_softmax(-1)[tokens])


@ONCE
def test_nucleus_keeps_the_smallest_set_and_renormalises():
    counts, tokens, logprobs = frequencies(1.0, top_p=0.75)
    allowed = [0, 5]
    assert set(counts) == set(allowed)
    torch.testing.assert_close(logprobs, LOGITS[allowed].log_softmax(-1)[(tokens == 5).long()])


@ONCE
@pytest.mark.parametrize("uniform", [1.0, 2.0**-24])
def test_the_ends_of_the_uniform_land_on_tokens_that_have_probability(uniform):
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    token, logprob = draw(logits, torch.tensor([uniform]), 1.0)
    assert token.item() in (1, 2) and logprob.isfinite().all()


@ONCE
def test_both_samplers_draw_the_same_tokens(pair, prompts):
    by_kind = [
        kind(24).sample(pair.policy, prompts, 4, pair.codec, torch.Generator().manual_seed(3))
        for kind in KINDS.values()
    ]
    assert all(same(by_kind[0], other) for other in by_kind[1:])
