"""vLLM behind our contract, with a stand-in that reads base and adapter from their folders as vLLM does."""

from __future__ import annotations

import sys
from pathlib import Path

import fake_vllm
import pytest
import torch
from safetensors.torch import load_file

from rairl_lightning.errors import ConfigError, DataError, ModelError, TrainingError
from rairl_lightning.functional import processes
from rairl_lightning.models import BackboneSpec, FullFineTuning, ModelPair
from rairl_lightning.rollouts import HFSampler, Sampler, VLLMSampler, vllm
from rairl_lightning.rollouts.base import PartOfDraws
from rairl_lightning.types import Rollouts

Prompts = list[list[int]]


@pytest.fixture(scope="session")
def pair(adapted: ModelPair) -> ModelPair:
    return adapted


@pytest.fixture(autouse=True)
def llm(monkeypatch: pytest.MonkeyPatch) -> type[fake_vllm.LLM]:
    return fake_vllm.install(monkeypatch)


@pytest.fixture
def moved(pair: ModelPair):
    """Moves the policy as an update does; afterwards all is as before."""
    before = {name: tensor.clone() for name, tensor in pair.adapter_state("policy").items()}

    def move(by: float = 0.3) -> None:
        with torch.no_grad():
            for parameter in pair.trainable_parameters("policy"):
                parameter.add_(torch.ones_like(parameter) * by)

    yield move
    pair.load_adapter_state("policy", before)


def sample(
    pair: ModelPair, prompts: Prompts, sampler: Sampler, group: int = 2, seed: int = 0, temperature: float | None = None
) -> Rollouts:
    generator = torch.Generator().manual_seed(seed)
    return sampler.sample(pair.policy, prompts, group, pair.codec, generator, temperature=temperature)


def make(new: int = 8, **settings: object) -> VLLMSampler:
    return VLLMSampler(new, **{"max_prompt_tokens": 24, "probe_tokens": 4, **settings})


def test_rows_are_groups_of_their_prompt(pair: ModelPair, prompts: Prompts) -> None:
    rollouts = sample(pair, prompts, make(24))
    for row, trace in enumerate(rollouts.tokens.traces()):
        assert trace.prompt_ids == prompts[row // 2]
        ended = trace.completion_ids[-1] == pair.codec.eos_id
        assert pair.codec.eos_id not in trace.completion_ids[:-1]
        assert bool(rollouts.finished[row]) == ended and (ended or len(trace.completion_ids) == 24)
    assert len(set(rollouts.texts)) == 6


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_that_were_drawn_by(pair: ModelPair, prompts: Prompts, temperature: float) -> None:
    """Of the adapted policy, after the temperature: vLLM's default would be those before."""
    rollouts = sample(pair, prompts, make(temperature=temperature))
    expected = pair.policy.score(rollouts.tokens, 4096, temperature).logprobs
    torch.testing.assert_close(rollouts.logprobs, expected, atol=1e-4, rtol=0)
    raw = sample(pair, prompts, make(temperature=temperature, engine={"logprobs_mode": "raw_logprobs"}))
    wrong = [pair.reference.score(rollouts.tokens, 4096, temperature).logprobs, *([raw.logprobs] * (temperature != 1))]
    for other in wrong:
        with pytest.raises(AssertionError):
            torch.testing.assert_close(other, expected, atol=1e-4, rtol=0)


def test_greedy_is_what_our_own_loop_takes(pair: ModelPair, prompts: Prompts) -> None:
    theirs, ours = (sample(pair, prompts, sampler, temperature=0) for sampler in (make(), HFSampler(8)))
    assert theirs.tokens.traces() == ours.tokens.traces()
    torch.testing.assert_close(theirs.logprobs, ours.logprobs, atol=1e-4, rtol=0)


def test_draws_depend_on_the_generator_and_the_place_alone(pair: ModelPair, prompts: Prompts) -> None:
    sampler, state = make(), torch.get_rng_state()
    whole, again, other = (sample(pair, prompts, sampler, seed=seed) for seed in (0, 0, 1))
    assert whole.texts == again.texts != other.texts and torch.equal(torch.get_rng_state(), state)
    part = PartOfDraws(torch.Generator().manual_seed(0), 1, len(prompts))
    assert sampler.sample(pair.policy, prompts[1:], 2, pair.codec, part).texts == whole.texts[2:]


def test_an_adapter_is_handed_over_when_it_has_changed_and_nothing_else_is(
    pair: ModelPair, prompts: Prompts, llm, moved, tmp_path: Path
) -> None:
    sampler = make(adapters=str(tmp_path))
    first, second = (sample(pair, prompts, sampler) for _ in range(2))
    moved()
    third = sample(pair, prompts, sampler)
    (engine,) = llm.made
    assert [(one.lora_name, one.lora_int_id) for one in engine.loaded] == [("policy-1", 1), ("policy-2", 2)]
    assert first.version == second.version != third.version == pair.policy.version()
    expected = pair.policy.score(third.tokens, 4096).logprobs
    torch.testing.assert_close(third.logprobs, expected, atol=1e-4, rtol=0)
    (folder,) = tmp_path.glob("*/*")  # the earlier one is gone, and nothing half-written is left
    assert folder == Path(engine.loaded[1].lora_path)
    tensors, own = load_file(folder / "adapter_model.safetensors"), pair.adapter_state("policy")
    assert len(tensors) == len(own) and all(".lora_" in name for name in tensors)
    assert sampler.metrics()["sampler/handed_over"] == 2 and 0 <= sampler.metrics()["sampler/probe_gap"] < 1e-5


def test_the_probe_finds_a_stale_adapter(pair: ModelPair, prompts: Prompts, llm, moved, monkeypatch) -> None:
    monkeypatch.setattr(llm, "stale", True)
    sampler = make()
    sample(pair, prompts, sampler)
    moved()
    for _ in range(2):  # nor is it sampled with when asked again
        with pytest.raises(TrainingError, match=r"not the trainer's[\s\S]*adapter number"):
            sample(pair, prompts, sampler)
    monkeypatch.setattr(llm, "stale", False)
    assert sample(pair, prompts, sampler).version == pair.policy.version()


def test_a_gap_that_is_no_number_is_one(pair: ModelPair, prompts: Prompts, monkeypatch) -> None:
    monkeypatch.setattr(vllm, "gap_statistics", lambda *tensors: {"gap_mean": torch.tensor(torch.nan)})
    with pytest.raises(TrainingError, match="nan"):
        sample(pair, prompts, make())


def test_memory_is_given_back_between_calls(pair: ModelPair, prompts: Prompts, llm) -> None:
    sampler = make()
    for _ in range(2):
        sample(pair, prompts, sampler)
    assert llm.made[0].did == ["generate", "generate", "sleep", "wake_up", "generate", "sleep"]
    sample(pair, prompts, make(sleeps=False))
    assert llm.made[1].did == ["generate", "generate"] and not llm.made[1].arguments["enable_sleep_mode"]


def test_vllm_is_told_what_the_policy_is(pair: ModelPair, prompts: Prompts, llm, tiny: Path) -> None:
    sample(pair, prompts, make(engine={"enforce_eager": True, "gpu_memory_utilization": 0.7}))
    told = llm.made[0].arguments
    expected = {"model": str(tiny), "dtype": "float32", "quantization": None, "max_lora_rank": 8, "max_model_len": 32}
    assert expected.items() <= told.items()
    assert told["enforce_eager"] and told["gpu_memory_utilization"] == 0.7 and told["generation_config"] == "vllm"


def test_whole_weights_are_never_handed_over(tiny: Path, prompts: Prompts, llm) -> None:
    with pytest.raises(ConfigError, match="all weights are trained"):
        sample(FullFineTuning(BackboneSpec(str(tiny))).build(), prompts, make())
    assert llm.made == []


def test_what_vllm_refuses_is_one_error(pair: ModelPair, prompts: Prompts) -> None:
    with pytest.raises(ModelError, match=r"did not start[\s\S]*TypeError[\s\S]*remedy"):
        sample(pair, prompts, make(engine={"no_such_argument": 1}))


def test_prompts_must_fit(pair: ModelPair, prompts: Prompts) -> None:
    with pytest.raises(DataError, match="max_prompt_tokens"):
        sample(pair, prompts, make(max_prompt_tokens=8))
    with pytest.raises(DataError, match="no tokens"):
        sample(pair, [[]], make())
    assert len(sample(pair, [], make())) == 0
    longest = max(map(len, prompts))
    sample(
        pair, prompts, make(2, max_prompt_tokens=longest, probe_tokens=9)
    )  # the probe is no longer than a completion


def test_several_processes_and_shards_are_refused(pair: ModelPair, prompts: Prompts, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(processes, "count", lambda: 2)
        with pytest.raises(ConfigError, match="2 processes"):
            sample(pair, prompts, make())
    monkeypatch.setattr(pair.policy, "units", (object(),))
    with pytest.raises(ConfigError, match="in shards"):
        sample(pair, prompts, make())


def test_without_vllm_the_configuration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vllm")
    with pytest.raises(ConfigError, match=r"rairl-lightning\[vllm\]"):
        make()


@pytest.mark.parametrize(
    "setting",
    [{"gpu_memory_utilization": 1.0}, {"probe_tokens": 0}, {"max_gap": 0.0}, {"temperature": -1.0}, {"top_p": 0.0}],
)
def test_settings_out_of_range_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make(**setting)
