"""What a sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.types import Rollouts


@dataclass(frozen=True)
class PartOfDraws:
    """A generator whose draws are for more prompts than those that are sampled here.

    Attributes:
        generator: the same, in the same state, wherever a part is sampled.
        first: place of the first prompt here among all.
        prompts: all of them.
    """

    generator: torch.Generator
    first: int
    prompts: int


class Sampler(ABC):
    """Draws completions; a frozen dataclass, so that YAML can name it.

    Attributes:
        temperature: τ of the distribution that training samples from; the trainer's log-probabilities use the same.
        shares_prompts: whether the keys and values of a prompt are held once for all its samples, for planning.
        keeps_cache: whether keys and values stay where they are between calls, for planning.
        takes_share: whether an engine takes its memory by itself, so that there is nothing to plan.
    """

    temperature: float
    shares_prompts: ClassVar[bool] = False
    keeps_cache: ClassVar[bool] = False
    takes_share: ClassVar[bool] = False

    @abstractmethod
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
        """Draw ``group_size`` completions of every prompt.

        Args:
            policy: left in the mode (training or evaluation) it was in.
            prompts: B templated prompts as ids.
            group_size: G ≥ 1.
            codec: of the policy.
            generator: the only source of randomness; read by :func:`uniforms`.
            temperature: replaces the sampler's own; 0 takes the most probable token.

        Returns:
            B·G traces, row ``b * group_size + g`` for sample ``g`` of prompt ``b``, on the policy's device.
        """

    def metrics(self) -> dict[str, float]:
        """What is to be logged of the last calls, beside the gap to the trainer."""
        return {}


def uniforms(source: torch.Generator | PartOfDraws, tokens: int, prompts: int, group_size: int) -> Tensor:
    """What the completions of some prompts are drawn by, whoever samples them and in however many passes.

    Args:
        source: drawn from once.
        tokens: T, the longest completion.
        prompts: B.
        group_size: G.

    Returns:
        ``[T, B·G]`` float32 in (0, 1], on the generator's device.
    """
    part = _part(source, prompts)
    shape, device = (tokens, part.prompts * group_size), part.generator.device
    all_TN = 1 - torch.rand(shape, generator=part.generator, device=device)
    return all_TN[:, part.first * group_size : (part.first + prompts) * group_size]


def seeds(source: torch.Generator | PartOfDraws, prompts: int, group_size: int) -> list[int]:
    """What the completions of some prompts are drawn by, where another engine draws them: a seed for each.

    Args:
        source: drawn from once.
        prompts: B.
        group_size: G.

    Returns:
        B·G numbers in [0, 2³¹).
    """
    part = _part(source, prompts)
    shape, device = (part.prompts * group_size,), part.generator.device
    all_N = torch.randint(2**31, shape, generator=part.generator, device=device)
    return all_N[part.first * group_size : (part.first + prompts) * group_size].tolist()


def _part(source: torch.Generator | PartOfDraws, prompts: int) -> PartOfDraws:
    return PartOfDraws(source, 0, prompts) if isinstance(source, torch.Generator) else source


def check_bounds(settings: object, **bounds: tuple[bool, str]) -> None:
    """Refuse a setting that is out of range.

    Args:
        settings: whose attributes have the names of ``bounds``.
        bounds: for each, whether it holds, and what would.

    Raises:
        ConfigError: it does not.
    """
    for name, (holds, expected) in bounds.items():
        if not holds:
            raise ConfigError(f"{name} is out of range.", expected=expected, got=getattr(settings, name))


def check_prompts(prompts: Sequence[Sequence[int]], longest: int | None = None) -> None:
    """Refuse prompts that cannot be continued.

    Args:
        prompts: as ids.
        longest: tokens that a sampler has room for; None for any.

    Raises:
        DataError: one has no tokens, or too many.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise DataError("A prompt has no tokens.", remedy="encode prompts with the codec")
    if longest is not None and (most := max(map(len, prompts), default=0)) > longest:
        raise DataError(
            "A prompt is longer than the sampler has room for.",
            expected=f"at most {longest} tokens",
            got=most,
            remedy="set sampler.max_prompt_tokens to data.max_prompt_tokens",
        )
