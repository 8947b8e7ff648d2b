"""What a sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.types import Rollouts


class Sampler(ABC):
    """Draws completions; a frozen dataclass, so that YAML can name it.

    Attributes:
        temperature: τ of the distribution that training samples from; the trainer's log-probabilities use the same.
    """

    temperature: float

    @abstractmethod
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
        """Draw ``group_size`` completions of every prompt.

        Args:
            policy: left in the mode (training or evaluation) it was in.
            prompts: B templated prompts as ids.
            group_size: G ≥ 1.
            codec: of the policy.
            generator: the only source of randomness.
            temperature: replaces the sampler's own; 0 takes the most probable token.

        Returns:
            B·G traces, row ``b * group_size + g`` for sample ``g`` of prompt ``b``, on the policy's device.
        """


def uniforms(generator: torch.Generator, tokens: int, prompts: int, group_size: int) -> Tensor:
    """What completions are drawn by: a prompt's are a function of the generator's state and of the prompt's place.

    Neither which prompts come behind it nor how many go through the model at once changes them; a process that samples
    the prompts from place b on first calls :func:`skip` for the b before.

    Args:
        generator: drawn from once a prompt.
        tokens: T, the longest completion.
        prompts: B.
        group_size: G.

    Returns:
        ``[T, B·G]`` float32 in (0, 1], on the CPU.
    """
    seeds = _seeds(generator, prompts)
    blocks = [torch.rand(tokens, group_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return 1 - torch.cat([torch.empty(tokens, 0), *blocks], dim=1)


def skip(generator: torch.Generator, prompts: int) -> None:
    """Leave the generator as :func:`uniforms` for ``prompts`` prompts would."""
    _seeds(generator, prompts)


def _seeds(generator: torch.Generator, count: int) -> list[int]:
    # One by one: on a GPU, numbers drawn together do not depend on their place alone.
    draws = (torch.randint(2**62, (), generator=generator, device=generator.device) for _ in range(count))
    return [int(seed) for seed in draws]
