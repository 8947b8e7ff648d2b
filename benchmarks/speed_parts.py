"""Our side of a comparison in parts: how it samples, what it is paid, what it learns from, and its algorithms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jsonargparse import ArgumentParser
from speed_questions import share_of_digits
from speed_work import TINY_TOKENS, Question, Work
from torch import Tensor
from torch.optim import AdamW

from rairl_lightning.algorithms import GRPO, SFT
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.components import ClippedSurrogate, Constant, Fixed, Interval, Verifier
from rairl_lightning.data.demonstrations import DemonstrationSource, Splits
from rairl_lightning.models import BackboneSpec, LoRASpec, Policy, SharedBase, TraceCodec
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.types import Demonstration, Rollouts

NEVER = -1  # an id that no token has


@dataclass(frozen=True)
class Unending(Sampler):
    """Another sampler that takes no token for the end of the turn, so that every completion has the most tokens.

    Attributes:
        sampler: who samples.
        temperature: its own.
    """

    sampler: Sampler
    temperature: float = 1.0

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """See :class:`Sampler`."""
        unending = copy.copy(codec)
        unending.eos_id = NEVER
        return self.sampler.sample(policy, prompts, group_size, unending, generator, temperature=temperature)


@dataclass(frozen=True)
class Digits(Verifier):
    """Pays as the other side does."""

    def __call__(self, texts: Sequence[str], demonstrations: Sequence[Demonstration]) -> Tensor:
        """The share of digits in each text, ``[N]``."""
        return torch.tensor([share_of_digits(text) for text in texts])


@dataclass(frozen=True)
class Given(DemonstrationSource):
    """The questions of a work: one batch an epoch; and one to validate on, which SFT does not do without.

    Attributes:
        questions: B of them.
    """

    questions: tuple[Question, ...]

    def splits(self) -> Splits:
        """See the class."""
        train = tuple(Demonstration(one.id, one.prompt, one.reasoning, one.answer) for one in self.questions)
        return Splits(train, (replace(train[0], id="selection", prompt=f"Once more: {train[0].prompt}"),))


def sampler(work: Work, new_tokens: int) -> Sampler:
    """The sampler that the work names, so that the class is an option, as are those of its parts."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Sampler, "sampler")
    arguments = {"max_new_tokens": new_tokens, **work.sampler_arguments}
    given = parser.parse_object({"sampler": {"class_path": work.sampler, "init_args": arguments}})
    made = parser.instantiate_classes(given).sampler
    return Unending(made, made.temperature) if work.forced else made


def pair(work: Work) -> SharedBase:
    """One base, an adapter of the same rank for each player."""
    lora = LoRASpec(work.rank, 2.0 * work.rank)
    dtype = "float32" if work.device == "cpu" else "bfloat16"
    return SharedBase(
        BackboneSpec(work.model, quantisation=work.quantisation, dtype=dtype),
        lora,
        lora,
        system_prompt=work.system_prompt,
        activation_checkpointing=work.checkpointing,
    )


def _settings(work: Work, *players: str) -> dict[str, Any]:
    def adamw(parameters: Any) -> AdamW:
        return AdamW(parameters, lr=work.learning_rate)

    common = {"pair": pair(work), "max_tokens_per_microbatch": work.microbatch_tokens, "seed": work.seed}
    factories = {f"{player}_optimizer": adamw for player in players}
    return common | factories | {f"{player}_schedule": Constant() for player in players}


def _rounds(work: Work) -> dict[str, Any]:
    loss = ClippedSurrogate(kl_coef=work.kl)
    first = sampler(work, min(TINY_TOKENS, work.new_tokens))
    return {"sampler": first, "policy_loss": loss, "group_size": work.group_size, "rounds": 1 + work.rounds}


def grpo(work: Work) -> GRPO:
    """The baseline."""
    return GRPO(**_settings(work, "policy"), **_rounds(work), verifier=Digits())


def rairl(work: Work) -> RAIRL:
    """Three updates of the discriminator, of B·G traces each, and one of the policy."""
    return RAIRL(
        **_settings(work, "policy", "discriminator"),
        **_rounds(work),
        granularity=Interval(15),
        discriminator_updates=Fixed(3),
        discriminator_batch=max(2, work.traces),
        warmup=Warmup(0),
    )


def sft(work: Work) -> SFT:
    """An epoch is one batch; those that are timed and one before."""
    epochs = 1 + work.rounds
    phase = SFTInitialisation(epochs=epochs, patience=epochs, monitor="log_likelihood")
    return SFT(**_settings(work, "sft"), sampler=sampler(work, 1), sft=phase)


ALGORITHMS: dict[str, Callable[[Work], RoundsModule]] = {"grpo": grpo, "rairl": rairl, "sft": sft}
