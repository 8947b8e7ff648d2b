"""The numbers of a configuration that memory and time depend on, read from its objects; nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning import Callback, LightningModule

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.models.decoding import HeldWeights, InPlace
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.module import RAIRL
from rairl_lightning.planning.optimisers import OptimiserState, optimiser_state


@dataclass(frozen=True)
class Setup:
    """A run, in numbers; every length is the longest that is allowed.

    Attributes:
        algorithm: as in YAML.
        pair: how the models are made.
        learns_reward: whether there is a discriminator.
        autocast: whether products are computed in bf16.
        optimisers: of who moves at all: ``sft``, ``discriminator``, ``policy``.
        prompts: of a round, B.
        group_size: G.
        prompt_tokens: of a prompt.
        sampled_tokens: of a completion that is sampled.
        demonstration_tokens: of a demonstration's completion.
        max_rows: rows that the sampler decodes at once; None for all.
        shares_prompts: whether it holds a prompt's keys and values once for all its samples.
        keeps_cache: whether keys and values stay between calls of it.
        weights: how it holds the policy's.
        cuts_tail: whether it sorts the vocabulary, for a nucleus.
        microbatch: padded tokens in a model at once.
        negatives: replayed and perturbed traces of a round.
        drawn: traces of a discriminator update; None for all.
        discriminator_updates: of a round, k.
        policy_updates: of a round.
        policy_passes: over the round's traces in them.
        experts_join: whether the demonstration is a member of its group.
        asks_reference: whether the policy's loss or reward does.
        penalises_gradient: whether the discriminator's gradient is differentiated.
        rounds: adversarial rounds.
        warmup_updates: of the discriminator.
        sft_epochs: of the initialisation, or of SFT.
        evaluation: prompts and samples of each in the largest evaluation.
        replay_rounds: remembered on the host.
    """

    algorithm: str
    pair: PairSpec
    learns_reward: bool
    autocast: bool
    optimisers: Mapping[str, OptimiserState]
    prompts: int
    group_size: int
    prompt_tokens: int
    sampled_tokens: int
    demonstration_tokens: int
    max_rows: int | None
    shares_prompts: bool
    keeps_cache: bool
    weights: HeldWeights
    cuts_tail: bool
    microbatch: int
    negatives: int
    drawn: int | None
    discriminator_updates: int
    policy_updates: int
    policy_passes: int
    experts_join: bool
    asks_reference: bool
    penalises_gradient: bool
    rounds: int
    warmup_updates: int
    sft_epochs: int
    evaluation: tuple[int, int]
    replay_rounds: int

    @property
    def rollouts(self) -> int:
        """N = B · G."""
        return self.prompts * self.group_size

    @property
    def longest_rollout(self) -> int:
        """Tokens of a rollout with its prompt."""
        return self.prompt_tokens + self.sampled_tokens

    @property
    def longest_demonstration(self) -> int:
        """Tokens of a demonstration with its prompt."""
        return self.prompt_tokens + self.demonstration_tokens

    @property
    def longest(self) -> int:
        """Tokens of any trace."""
        return max(self.longest_rollout, self.longest_demonstration)

    @property
    def members(self) -> int:
        """Traces of a policy update's round."""
        return self.rollouts + self.prompts * self.experts_join

    @property
    def judged(self) -> int:
        """Traces of a discriminator update."""
        every = self.rollouts + self.prompts + self.negatives
        return every if self.drawn is None else min(self.drawn, every)

    @property
    def samples(self) -> bool:
        """Whether there is a round at all."""
        return self.rounds > 0 or self.warmup_updates > 0

    def microbatch_tokens(self, traces: int, longest: int) -> int:
        """Padded tokens of the largest micro-batch of ``traces`` traces; one trace is always allowed."""
        return longest * min(traces, max(1, self.microbatch // longest))

    def decoded(self, prompts: int, samples: int) -> tuple[int, int]:
        """Prompts and rows that the sampler has in hand at once."""
        rows = min(prompts * samples, self.max_rows or prompts * samples)
        return max(1, rows // samples), rows


def setup_of(
    module: LightningModule, data: DemonstrationDataModule, callbacks: Sequence[Callback], precision: str
) -> Setup:
    """Read what ``fit`` would run.

    Args:
        module: with its parts, its models not loaded.
        data: not set up.
        callbacks: of the trainer.
        precision: the trainer's.

    Raises:
        ConfigError: the module is none of ours, or its sampler cannot be planned.
    """
    if not isinstance(module, RoundsModule):
        raise ConfigError(
            f"{type(module).__name__} cannot be planned.", expected="RAIRL, GRPO or SFT", got=type(module).__name__
        )
    sampler = module.sampler
    if sampler.takes_share:
        raise ConfigError(
            f"{type(sampler).__name__} takes memory by itself, which cannot be planned.",
            expected="a sampler that decodes with the policy's own weights",
            got=sampler,
            remedy="plan with SharedPrefixSampler on a device that is smaller by the engine's share",
        )
    sampled = getattr(sampler, "max_new_tokens", data.max_completion_tokens)
    return Setup(
        algorithm=type(module).__name__,
        pair=module.pair_spec,
        learns_reward=module.learns_reward,
        autocast="bf16" in precision,
        optimisers=_optimisers(module),
        prompts=data.batch_size,
        group_size=getattr(module, "group_size", 1),
        prompt_tokens=data.max_prompt_tokens,
        sampled_tokens=sampled,
        demonstration_tokens=data.max_completion_tokens,
        max_rows=getattr(sampler, "max_rows", None),
        shares_prompts=sampler.shares_prompts,
        keeps_cache=sampler.keeps_cache,
        weights=getattr(sampler, "weights", InPlace()),
        cuts_tail=getattr(sampler, "top_p", 1.0) < 1,
        microbatch=module.max_tokens_per_microbatch,
        **_of_discriminator(module, data),
        **_of_policy(module),
        rounds=module.rounds,
        sft_epochs=module.sft.epochs,
        evaluation=_largest_evaluation(data, callbacks),
    )


def _optimisers(module: RoundsModule) -> dict[str, OptimiserState]:
    """Of those that take a step in this run: others hold nothing."""
    steps = {
        "sft": module.sft.epochs > 0,
        "policy": module.rounds > 0,
        "discriminator": module.rounds > 0 or module.warmup.updates > 0,
    }
    return {name: optimiser_state(factory) for name, (factory, _) in module.factories.items() if steps[name]}


def _of_discriminator(module: RoundsModule, data: DemonstrationDataModule) -> dict[str, Any]:
    if not isinstance(module, RAIRL):
        names = ("negatives", "discriminator_updates", "warmup_updates", "replay_rounds")
        return {**dict.fromkeys(names, 0), "drawn": None, "penalises_gradient": False}
    replay = data.buffer.capacity
    return {
        "negatives": data.perturbed_copies * data.batch_size + (data.replayed if replay else 0),
        "drawn": module.draw.count,
        "discriminator_updates": module.discriminator_updates.expected,
        "warmup_updates": module.warmup.updates,
        "penalises_gradient": module.objective.penalty is not None,
        "replay_rounds": replay,
    }


def _of_policy(module: RoundsModule) -> dict[str, Any]:
    objective = getattr(module, "policy_objective", None)
    if objective is None:
        return {"policy_updates": 0, "policy_passes": 0, "experts_join": False, "asks_reference": False}
    return {
        "policy_updates": objective.updates,
        "policy_passes": objective.epochs,
        "experts_join": objective.expert.joins,
        "asks_reference": objective.loss.needs_reference or objective.reward_penalty.needs_reference,
    }


def _largest_evaluation(data: DemonstrationDataModule, callbacks: Sequence[Callback]) -> tuple[int, int]:
    """Prompts and samples: of validation, or of a callback that samples several answers to each question."""
    asked = [(getattr(one, "questions", 0), getattr(one, "samples", 0)) for one in callbacks]
    sampling = [pair for pair in asked if all(isinstance(n, int) and n > 0 for n in pair)]
    return max([(data.eval_batch_size, 1), *sampling], key=lambda pair: pair[0] * pair[1])
