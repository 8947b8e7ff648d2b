"""Sampling by the continuous batching of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rairl_lightning.errors import ModelError
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.models.continuous import Paging, generate_continuously, require_continuous_batching
from rairl_lightning.models.modes import evaluating
from rairl_lightning.models.wanted import Wanted
from rairl_lightning.rollouts.base import PartOfDraws, Sampler, check_bounds, check_prompts, seeds
from rairl_lightning.rollouts.stepwise import collect
from rairl_lightning.types import Rollouts

ATTENTIONS = ("sdpa", "flash_attention_2", "flash_attention_3")  # by other names the hub would be asked for kernels


@dataclass(frozen=True)
class ContinuousSampler(Sampler):
    """Samples by transformers' continuous batching: a request that ends makes room for the next within one step.

    The weights and adapters are the policy's own, the prompts' pages are shared, and the log-probabilities are those
    it drew by. It draws from torch's own generators, seeded from ours: other tokens than HFSampler, of the same
    distribution, and the same ones again only for the same prompts together. Its thread knows no autocast: under
    ``bf16-mixed`` a float32 model is sampled in float32.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        attention: of transformers, used meanwhile: ``sdpa``, or a flash attention that is installed.
        cache_tokens: keys and values held at once; null for as many as the prompts and completions of a call can be.
        page_tokens: of a page of that cache, ≥ 4.
        step_tokens: read in one step, prompts and new tokens together.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    attention: str = "sdpa"
    cache_tokens: int | None = None
    page_tokens: int = 64
    step_tokens: int = 1024

    def __post_init__(self) -> None:
        check_bounds(
            self,
            max_new_tokens=(self.max_new_tokens >= 1, ">= 1"),
            temperature=(self.temperature >= 0, ">= 0"),
            top_p=(0 < self.top_p <= 1, "0 < top_p <= 1"),
            attention=(self.attention in ATTENTIONS, " or ".join(ATTENTIONS)),
            page_tokens=(self.page_tokens >= 4, ">= 4"),
            cache_tokens=(self.cache_tokens is None or self.cache_tokens >= self.page_tokens, ">= page_tokens or null"),
            step_tokens=(self.step_tokens >= 1, ">= 1"),
        )
        require_continuous_batching()

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
        """See :meth:`Sampler.sample`."""
        check_prompts(prompts)
        if policy.sharded:
            raise ModelError(
                "Continuous batching cannot read a policy in shards.",
                expected="a policy that is whole in each process",
                remedy="use --trainer.strategy ddp, or sample with HFSampler",
            )
        seed = seeds(generator, len(prompts), group_size)[:1]
        heat = self.temperature if temperature is None else temperature
        if not prompts:
            return collect([], [], group_size, codec, policy.device)
        different = group_size if heat else 1  # of each prompt; the most probable completion is one
        wanted = Wanted(self.max_new_tokens, heat, self.top_p, codec.eos_id, different)
        with evaluating(policy):
            found = generate_continuously(policy.causal_lm, prompts, wanted, self._paging(prompts, different), seed[0])
        drawn = [(ids, torch.tensor(logprobs)) for ids, logprobs in found for _ in range(group_size // different)]
        return collect(prompts, drawn, group_size, codec, policy.device)

    def _paging(self, prompts: Sequence[Sequence[int]], count: int) -> Paging:
        pages = sum(-(-(len(prompt) + self.max_new_tokens) // self.page_tokens) for prompt in prompts)
        every = count * pages * self.page_tokens
        return Paging(self.attention, self.page_tokens, self.cache_tokens or every, self.step_tokens)
