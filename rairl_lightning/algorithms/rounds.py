"""The phases of a run as Lightning sees them: SFT initialisation, warm-up, adversarial rounds, the end."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, ClassVar

from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.players import PlayersModule
from rairl_lightning.algorithms.requirements import require_sampling
from rairl_lightning.algorithms.sft_requirements import require_selection, require_time_for_sft
from rairl_lightning.algorithms.supervised import BestEpoch, sft_losses
from rairl_lightning.components.description import STATE_KEY
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import TokenBatch, TrainBatch


class RoundsModule(PlayersModule):
    """Goes through the phases and counts rounds; what happens in a round is the subclass's.

    Args:
        sft: optional SFT initialisation.
        warmup: discriminator updates before the policy moves.
        rounds: adversarial rounds, >= 0.
        players: as for :class:`PlayersModule`.
    """

    short_name: ClassVar[str]
    """Of the algorithm, in tables and files."""

    def __init__(self, sft: SFTInitialisation, warmup: Warmup, rounds: int, **players: Any) -> None:
        super().__init__(**players)
        if rounds < 0:
            raise ConfigError("There cannot be this many rounds.", expected="rounds >= 0", got=rounds)
        self.sft, self.warmup, self.rounds = sft, warmup, rounds
        self.best_epoch = BestEpoch(sft.patience)
        self.clock.phase = Phase.SFT if sft.epochs else self._phase_after_sft()

    def sft_step(self, batch: TrainBatch) -> dict[str, TokenBatch]:
        """One supervised step on the batch's demonstrations; nothing to replay."""
        with self.stopwatch("sft", int(batch.experts.attention_mask.sum())):
            losses = sft_losses(self.models.policy, batch.experts, self.max_tokens_per_microbatch)
            self.log_update("sft", self.update_player("sft", losses, lambda: self.unlikely(batch.experts)))
        self.log_dict(self.stopwatch.metrics())
        return {}

    @property
    def anchors_reference(self) -> bool:
        """After an SFT initialisation."""
        return self.sft.epochs > 0

    @property
    def sft_updates(self) -> int:
        """Most updates of the SFT initialisation."""
        # Lightning counts later; making it count now (estimated_stepping_batches) loses the data position on resume.
        return self.sft.epochs and self.sft.epochs * len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]

    def on_fit_start(self) -> None:
        """Refuse what only the whole configuration shows to be impossible."""
        rounds = bool(self.rounds or self.warmup.updates)
        if rounds:
            require_sampling(self.sampler.temperature)
        if self.clock.phase is Phase.SFT:
            require_selection(self.trainer, len(self.trainer.datamodule.val_dataloader()))  # type: ignore[attr-defined]
            require_time_for_sft(self.trainer, self.sft.epochs, self.sft_updates, rounds)

    def on_train_epoch_end(self) -> None:
        """Close an epoch of the SFT initialisation, and the phase with its last."""
        if self.clock.phase is not Phase.SFT:
            return
        self.clock.sft_epoch += 1
        metric = f"selection/{self.sft.monitor}"
        if metric not in self.trainer.callback_metrics:
            raise ConfigError(
                f"The SFT initialisation chooses its epoch by {metric}, which was not computed.",
                expected="a validation after every epoch",
                remedy="leave trainer.val_check_interval at 1.0",
            )
        self.best_epoch.offer(float(self.trainer.callback_metrics[metric]), self.models.adapter_state("policy"))
        over = self.best_epoch.exhausted or self.clock.sft_epoch >= self.sft.epochs
        if over or self.trainer.should_stop:  # then Lightning has validated, and whoever reports comes only after this
            self._end_sft(early=not over)

    def _end_sft(self, early: bool) -> None:
        if early:
            warnings.warn(
                f"The run was stopped in epoch {self.clock.sft_epoch} of {self.sft.epochs} of its SFT phase; "
                "the best epoch so far is kept.",
                stacklevel=2,
            )
        self.models.load_adapter_state("policy", self.best_epoch.state)
        self.models.anchor_reference()
        self.clock.phase = self._phase_after_sft()
        self._stop_if_over()

    def on_train_start(self) -> None:
        """A finished run that is resumed, and one without rounds, has nothing to do."""
        self._stop_if_over()

    def advance(self) -> None:
        """Count the round, change the phase where it is due, stop after the last round."""
        if self.clock.phase is Phase.ADVERSARIAL:
            self.clock.round += 1
        elif self.warmup.is_over(self.clock.discriminator_updates, self.clock.heldout_auroc):
            self.clock.phase = Phase.ADVERSARIAL
        self._stop_if_over()
        self.log("round", float(self.clock.round))

    def title(self, phase: Phase) -> str:
        """What a phase is called in progress lines and tables."""
        return phase.value

    @property
    def position(self) -> tuple[int, int]:
        """How far the present phase is: (done, total) SFT epochs, discriminator updates or rounds."""
        return {
            Phase.SFT: (self.clock.sft_epoch, self.sft.epochs),
            Phase.WARMUP: (self.clock.discriminator_updates, self.warmup.updates),
            Phase.ADVERSARIAL: (self.clock.round, self.rounds),
        }[self.clock.phase]

    def _stop_if_over(self) -> None:
        over = self.clock.phase is Phase.ADVERSARIAL and self.clock.round >= self.rounds
        self.trainer.should_stop = self.trainer.should_stop or over

    def _phase_after_sft(self) -> Phase:
        return Phase.WARMUP if self.warmup.updates else Phase.ADVERSARIAL

    @property
    def updates_a_round(self) -> int:
        """Updates of the discriminator in a round of the warm-up."""
        return 1

    def shorten(self, rounds: int) -> None:
        """Make every phase that is configured as short as can be; for a dry run, before optimisers are made.

        Args:
            rounds: of the warm-up and of the adversarial phase, >= 1.
        """
        updates = min(self.warmup.updates, rounds * self.updates_a_round)
        self.sft, self.warmup = replace(self.sft, epochs=min(self.sft.epochs, 1)), Warmup(updates)
        self.rounds = min(self.rounds, rounds)

    # Checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the best epoch of the SFT initialisation while it is still being looked for."""
        super().on_save_checkpoint(checkpoint)
        if self.clock.phase is Phase.SFT:
            checkpoint[STATE_KEY]["best_epoch"] = self.best_epoch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` added."""
        super().on_load_checkpoint(checkpoint)
        if "best_epoch" in checkpoint[STATE_KEY]:
            self.best_epoch.load_state_dict(checkpoint[STATE_KEY]["best_epoch"])
