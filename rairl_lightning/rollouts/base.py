"""What a sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.types import Rollouts


class Sampler(ABC):
    """Draws completions; a frozen dataclass, so that YAML can name it.

    Attributes:
        temperature: τ of the distribution that training samples from; the trainer's log-probabilities use the same.
        shares_prompts: whether the keys and values of a prompt are held once for all its samples, for planning.
    """

    temperature: float
    shares_prompts: ClassVar[bool] = False

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
