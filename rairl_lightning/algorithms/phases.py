"""Where a run stands: SFT initialisation, discriminator warm-up, adversarial rounds. Rounds are our clock.

Departures from the paper: the SFT initialisation is optional, and the warm-up may also end (or be held) by the
discriminator's held-out AUROC.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rairl_lightning.errors import ConfigError, TrainingError


class Phase(StrEnum):
    """The three phases, in order."""

    SFT = "sft"
    WARMUP = "warm-up"
    ADVERSARIAL = "adversarial"


@dataclass(frozen=True)
class SFTInitialisation:
    """Supervised fine-tuning of the policy on the demonstrations before anything adversarial.

    The epoch with the best score on the selection split is kept, and becomes the reference policy. A stop of the run,
    such as ``trainer.max_time``, ends the phase: what was learnt of its last epoch counts as an epoch.
    """

    epochs: int = 0
    """Most passes over the demonstrations; 0 skips the phase (paper: 0)."""
    patience: int = 2
    """Epochs without a better selection score after which it stops, >= 1."""
    monitor: str = "pass@1"
    """Selection metric, higher is better: ``pass@1`` (greedy) or ``log_likelihood`` (of the experts, per token)."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.patience < 1 or self.monitor not in ("pass@1", "log_likelihood"):
            raise ConfigError(
                "The SFT initialisation cannot run with these settings.",
                expected="epochs >= 0, patience >= 1, monitor pass@1 or log_likelihood",
                got=f"epochs={self.epochs}, patience={self.patience}, monitor={self.monitor}",
            )


@dataclass(frozen=True)
class Warmup:
    """Discriminator updates with the policy frozen."""

    updates: int = 250
    """Discriminator updates before the policy moves (paper: about 250); with ``until_auroc``, the most it may take."""
    until_auroc: float | None = None
    """The policy moves once the held-out AUROC (``DiscriminatorProbe``) reaches this, in (0.5, 1], and not before; a
    run that needs more than ``updates`` stops with an error. ``None``: after ``updates``."""

    def __post_init__(self) -> None:
        waits = self.until_auroc is not None
        if self.updates < waits or (self.until_auroc is not None and not 0.5 < self.until_auroc <= 1):
            raise ConfigError(
                "The warm-up cannot run with these settings.",
                expected="updates >= 0, until_auroc in (0.5, 1] or null; updates >= 1 to reach it in",
                got=f"updates={self.updates}, until_auroc={self.until_auroc}",
            )

    def is_over(self, updates: int, heldout_auroc: float | None) -> bool:
        """Whether the policy may move.

        Raises:
            TrainingError: the AUROC was not reached in ``updates`` updates.

        >>> Warmup(250, 0.8).is_over(30, 0.81), Warmup(250, 0.8).is_over(30, 0.7), Warmup(250).is_over(250, None)
        (True, False, True)
        """
        if self.until_auroc is None:
            return updates >= self.updates
        if heldout_auroc is not None and heldout_auroc >= self.until_auroc:
            return True
        if updates >= self.updates:
            raise TrainingError(
                f"The discriminator cannot tell held-out traces apart after {updates} updates.",
                expected=f"a held-out AUROC of {self.until_auroc} (warmup.until_auroc)",
                got="none yet" if heldout_auroc is None else f"{heldout_auroc:.3f}",
                remedy="raise warmup.updates or the discriminator's learning rate, or lower warmup.until_auroc",
            )
        return False


@dataclass
class Clock:
    """Counters of a run; plain values, saved in the checkpoint.

    Attributes:
        phase: where the run stands.
        sft_epoch: finished epochs of the SFT initialisation.
        discriminator_updates: updates of the discriminator so far, warm-up included.
        policy_updates: adversarial updates of the policy so far.
        round: finished adversarial rounds.
        batches: training steps of any phase; seeds each step's randomness.
        heldout_auroc: last held-out AUROC of the discriminator, set by ``DiscriminatorProbe``.
    """

    phase: Phase = Phase.SFT
    sft_epoch: int = 0
    discriminator_updates: int = 0
    policy_updates: int = 0
    round: int = 0
    batches: int = 0
    heldout_auroc: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {**asdict(self), "phase": self.phase.value}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Clock:
        """The inverse of :meth:`state_dict`."""
        return cls(**{**state, "phase": Phase(state["phase"])})
