"""Sampling by vLLM, which holds the base a second time and is handed the policy's adapter, nothing else."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from rairl_lightning.errors import ConfigError, TrainingError
from rairl_lightning.functional import processes
from rairl_lightning.functional.importance import gap_statistics
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.models.wanted import Wanted
from rairl_lightning.rollouts.base import PartOfDraws, Sampler, check_bounds, check_prompts, seeds
from rairl_lightning.rollouts.stepwise import collect
from rairl_lightning.rollouts.vllm_engine import VLLMEngine
from rairl_lightning.types import Rollouts

PROBES = 4  # prompts
SCORED_TOKENS = 4096  # at once, by the trainer


@dataclass(frozen=True)
class VLLMSampler(Sampler):
    """Samples by vLLM in the process of training; the extra ``vllm`` installs it.

    vLLM loads the policy's frozen base a second time. When the policy's adapter has changed it is written as a PEFT
    folder and loaded under a new name and number, so that neither an old adapter nor a prefix cached under one can be
    taken for it; then a few tokens are drawn whose log-probabilities the trainer computes too, and a gap stops the run.
    Prompts are handed over as ids; every trace has a seed of its own, so draws do not depend on the batch, but for
    rounding. The tokens are not HFSampler's.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_prompt_tokens: of the longest prompt that may come.
        gpu_memory_utilization: share of the GPU's memory that vLLM takes, weights and cache, in (0, 1).
        sleeps: give that memory back between calls: its weights wait on the host, its cache is dropped.
        probe_tokens: drawn of each of four prompts after the adapter was handed over, ≥ 1.
        max_gap: largest mean difference between the log-probabilities of vLLM and trainer over them, in nats, > 0.
        engine: more arguments of ``vllm.LLM``, such as ``enforce_eager``.
        adapters: folder for the adapters, a few MB to GB; null takes one in memory where there is one.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    max_prompt_tokens: int = 512
    gpu_memory_utilization: float = 0.4
    sleeps: bool = True
    probe_tokens: int = 16
    max_gap: float = 0.1
    engine: Mapping[str, Any] = field(default_factory=dict)
    adapters: str | None = None
    takes_share: ClassVar[bool] = True
    _held: list[VLLMEngine] = field(default_factory=list, init=False, repr=False, compare=False)
    _measured: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_bounds(
            self,
            max_new_tokens=(self.max_new_tokens >= 1, ">= 1"),
            temperature=(self.temperature >= 0, ">= 0"),
            top_p=(0 < self.top_p <= 1, "0 < top_p <= 1"),
            max_prompt_tokens=(self.max_prompt_tokens >= 1, ">= 1"),
            gpu_memory_utilization=(0 < self.gpu_memory_utilization < 1, "0 < gpu_memory_utilization < 1"),
            probe_tokens=(self.probe_tokens >= 1, ">= 1"),
            max_gap=(self.max_gap > 0, "> 0"),
        )
        require_vllm()

    def metrics(self) -> dict[str, float]:
        """The gap that the last probe found, and how often the adapter was handed over."""
        return dict(self._measured)

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator | PartOfDraws,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """See :meth:`Sampler.sample`.

        Raises:
            TrainingError: after the adapter was handed over vLLM's log-probabilities are not the trainer's.
        """
        check_prompts(prompts, self.max_prompt_tokens)
        _require_one_process(policy)
        heat = self.temperature if temperature is None else temperature
        wanted = Wanted(self.max_new_tokens, heat, self.top_p, codec.eos_id)
        each = [prompt for prompt in prompts for _ in range(group_size)]
        numbers = seeds(generator, len(prompts), group_size)
        if not each:
            return collect([], [], group_size, codec, policy.device)
        engine = self._engine(policy)
        with engine.awake():
            if engine.version != (version := policy.version()):
                engine.take(policy, version)
                self._probe(engine, policy, prompts[:PROBES], codec)
            drawn = engine.generate(each, numbers, wanted)
        return collect(prompts, drawn, group_size, codec, policy.device, version)

    def _engine(self, policy: Policy) -> VLLMEngine:
        if not self._held:
            longest = self.max_prompt_tokens + self.max_new_tokens
            arguments = {"gpu_memory_utilization": self.gpu_memory_utilization, "max_model_len": longest}
            self._held.append(VLLMEngine(policy, {**arguments, **self.engine}, self.sleeps, self.adapters))
        return self._held[0]

    def _probe(self, engine: VLLMEngine, policy: Policy, prompts: Sequence[Sequence[int]], codec: TraceCodec) -> None:
        """Compare a few tokens' log-probabilities; what was handed over is what the trainer has, or the run stops."""
        wanted = Wanted(min(self.probe_tokens, self.max_new_tokens), 1.0, 1.0, codec.eos_id)
        drawn = engine.generate(prompts, range(len(prompts)), wanted)
        probed = collect(prompts, drawn, 1, codec, policy.device)
        trainer_NT = policy.score(probed.tokens, SCORED_TOKENS).logprobs
        gap = float(gap_statistics(trainer_NT, probed.logprobs, probed.tokens.completion_mask)["gap_mean"])
        self._measured.update({"sampler/probe_gap": gap, "sampler/handed_over": float(engine.number)})
        if not gap <= self.max_gap:  # nor NaN
            engine.version = None
            raise TrainingError(
                "After the adapter was handed over, vLLM's log-probabilities are not the trainer's.",
                expected=f"a mean difference of at most {self.max_gap} nats over {len(prompts)} prompts",
                got=f"{gap:.3g} (adapter number {engine.number})",
                remedy="compare dtype and quantisation of both (sampler.engine), try engine: {enforce_eager: true}, "
                "or raise sampler.max_gap and set sampler_correction: TruncatedImportance",
            )


def require_vllm() -> None:
    """Refuse a configuration that needs vLLM where it is not installed.

    Raises:
        ConfigError: it is not.
    """
    if not installed():
        raise ConfigError(
            "VLLMSampler needs the package vllm.",
            expected="vllm, and a GPU",
            got="not installed",
            remedy="pip install 'rairl-lightning[vllm]', or sample with SharedPrefixSampler",
        )


def installed() -> bool:
    """Whether there is a vLLM; it is not imported, which takes long."""
    return importlib.util.find_spec("vllm") is not None


def _require_one_process(policy: Policy) -> None:
    if processes.count() > 1 or policy.sharded:
        raise ConfigError(
            "vLLM is handed the adapter that one process holds whole.",
            expected="one training process, and no shards",
            got="a policy in shards" if policy.sharded else f"{processes.count()} processes",
            remedy="sample with SharedPrefixSampler, or train with --trainer.devices 1 --trainer.strategy auto",
        )
