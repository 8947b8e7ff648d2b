"""Which rollouts the discriminator takes for experts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.components.base import Labelling


@dataclass(frozen=True)
class AnswerAgreement(Labelling):
    """Label switching: a rollout whose answer agrees with the demonstration's is a positive.

    It asks the expert's answer, not a verifier; a rollout without an answer is a negative.
    """

    def __call__(
        self,
        rollout_answers: Sequence[str | None],
        demonstration_answers: Sequence[str],
        agree: Callable[[str, str], bool],
    ) -> Tensor:
        """``[N]`` bool, True for positives."""
        pairs = zip(rollout_answers, demonstration_answers, strict=True)
        return torch.tensor([ours is not None and agree(ours, theirs) for ours, theirs in pairs], dtype=torch.bool)


@dataclass(frozen=True)
class ExpertsOnly(Labelling):
    """Only demonstrations are positives; every rollout is a negative."""

    def __call__(
        self,
        rollout_answers: Sequence[str | None],
        demonstration_answers: Sequence[str],
        agree: Callable[[str, str], bool],
    ) -> Tensor:
        """``[N]`` bool, all False."""
        return torch.zeros(len(rollout_answers), dtype=torch.bool)
