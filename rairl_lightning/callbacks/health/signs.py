"""The collapse signs that are watched unless YAML names others, with levels that ordinary noise does not reach.

The levels are ours. Falls of what also falls when a policy converges (spread, variety, entropy) are excused while the
rollouts agree with the demonstrations' answers as often as at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rairl_lightning.callbacks.health.kinds import Above, Below, Falls, Rises, Sign

SKIPPED_UPDATES = "health/skipped_updates"
AGREEMENT = "rollouts/agreement"


@dataclass(frozen=True)
class GroupRewardSpread(Falls):
    """The rewards inside a group become alike: the group-normalised advantage has nothing left to say."""

    metric: str = "reward/group_std"
    warning: float = 0.25
    collapse: float = 0.05
    excused_by: str | None = AGREEMENT
    advice: ClassVar[str] = "lower the discriminator's learning rate, or raise the reward's clip or temperature"


@dataclass(frozen=True)
class FormatRate(Falls):
    """Fewer traces have the agreed form."""

    metric: str = "rollouts/format_rate"
    warning: float = 0.8
    collapse: float = 0.5
    advice: ClassVar[str] = "lower the policy's learning rate, or raise policy_loss.kl_coef"


@dataclass(frozen=True)
class AnswerRate(Falls):
    """Fewer traces have an answer that can be read."""

    metric: str = "rollouts/answer_rate"
    warning: float = 0.8
    collapse: float = 0.5
    advice: ClassVar[str] = "lower the policy's learning rate, or raise policy_loss.kl_coef"


@dataclass(frozen=True)
class AgreementFalls(Falls):
    """Fewer answers agree with the demonstrations': the policy may have found what the reward overlooks."""

    metric: str = AGREEMENT
    patience: int = 6
    floor: float = 0.2
    advice: ClassVar[str] = "read the traces: if they are paid well, raise the discriminator's updates or learning rate"


@dataclass(frozen=True)
class DistinctRate(Falls):
    """The traces of a prompt become the same."""

    metric: str = "rollouts/distinct_rate"
    warning: float = 0.5
    collapse: float = 0.3
    patience: int = 5
    excused_by: str | None = AGREEMENT
    advice: ClassVar[str] = "lower the policy's learning rate, or raise policy_loss.kl_coef"


@dataclass(frozen=True)
class FinishedRate(Falls):
    """More traces run into the length limit."""

    metric: str = "rollouts/finished_rate"
    warning: float = 0.8
    collapse: float = 0.5
    advice: ClassVar[str] = "raise sampler.max_new_tokens if good traces need it; else lower the policy's learning rate"


@dataclass(frozen=True)
class LengthFalls(Falls):
    """The traces become short."""

    metric: str = "rollouts/length"
    warning: float = 0.4
    collapse: float = 0.2
    advice: ClassVar[str] = "weigh tokens by policy_loss.normalisation TokenMean, or read the reward at Interval"


@dataclass(frozen=True)
class LengthRises(Rises):
    """The traces become long."""

    metric: str = "rollouts/length"
    warning: float = 1.75
    collapse: float = 3.0
    advice: ClassVar[str] = "weigh tokens by policy_loss.normalisation TokenMean or ConstantLength"


@dataclass(frozen=True)
class KLToReference(Above):
    """The policy is far from the reference, in nats a token; logged where the loss or the reward has a KL."""

    metric: str = "policy/kl"
    warning: float = 0.5
    collapse: float = 2.0
    advice: ClassVar[str] = "raise policy_loss.kl_coef, or lower the policy's learning rate"


@dataclass(frozen=True)
class EntropyFalls(Falls):
    """The policy becomes sure of every token."""

    metric: str = "policy/entropy"
    warning: float = 0.2
    collapse: float = 0.05
    patience: int = 5
    excused_by: str | None = AGREEMENT
    advice: ClassVar[str] = "lower the policy's learning rate, or raise policy_loss.epsilon_high"


@dataclass(frozen=True)
class EntropyRises(Rises):
    """The policy becomes unsure: it is on its way to noise."""

    metric: str = "policy/entropy"
    warning: float = 2.5
    collapse: float = 5.0
    advice: ClassVar[str] = "lower the policy's learning rate, or raise policy_loss.kl_coef"


@dataclass(frozen=True)
class HeldoutAuroc(Below):
    """The discriminator ranks right held-out traces no better than chance; needs a ``DiscriminatorProbe``."""

    metric: str = "discriminator/heldout_auroc"
    warning: float = 0.55
    collapse: float = 0.35
    patience: int = 2
    advice: ClassVar[str] = "give the discriminator more updates (AurocBand), a higher learning rate or more replay"
    held: ClassVar[bool] = True


@dataclass(frozen=True)
class SkippedUpdates(Above):
    """Updates of this round whose loss or gradient was not finite; they were not made."""

    metric: str = SKIPPED_UPDATES
    warning: float = 1.0
    collapse: float = 1.0
    patience: int = 1
    advice: ClassVar[str] = "lower the learning rates; in 16-bit precision, try trainer.precision 32-true"


def default_signs() -> list[Sign]:
    """Every sign of this file."""
    falling = [GroupRewardSpread(), FormatRate(), AnswerRate(), AgreementFalls(), DistinctRate(), FinishedRate()]
    drifting = [LengthFalls(), LengthRises(), KLToReference(), EntropyFalls(), EntropyRises()]
    return [*falling, *drifting, HeldoutAuroc(), SkippedUpdates()]
