"""What the SFT phase needs from the trainer, asked before training: an epoch can only be kept if it is measured."""

from __future__ import annotations

from lightning import Trainer

from rairl_lightning.errors import ConfigError


def require_selection(trainer: Trainer, batches: int) -> None:
    """Every epoch of the SFT phase is measured on selection questions.

    Args:
        trainer: of the run.
        batches: of the selection split, >= 0.

    Raises:
        ConfigError: there are no such questions, or they are not read after every epoch.
    """
    if batches == 0:
        raise ConfigError(
            "The SFT phase chooses its epoch on the selection split, which is empty.",
            expected="at least one selection question",
            got="none",
            remedy="give data.source a selection split, or set sft.epochs: 0",
        )
    if trainer.limit_val_batches == 0 or trainer.check_val_every_n_epoch != 1:
        raise ConfigError(
            "The SFT phase chooses its epoch by a validation after each, which the trainer does not make.",
            expected="trainer.limit_val_batches above 0 and trainer.check_val_every_n_epoch: 1",
            got=f"{trainer.limit_val_batches} and {trainer.check_val_every_n_epoch}",
            remedy="set both, or sft.epochs: 0",
        )


def require_time_for_sft(trainer: Trainer, epochs: int, updates: int, goes_on: bool) -> None:
    """The trainer lets the SFT phase end by itself, and the run go on behind it.

    ``trainer.max_time`` is not refused: nobody knows beforehand how far it reaches, and where it ends the phase, the
    best epoch so far is kept.

    Args:
        trainer: of the run; its ``fast_dev_run`` is a trial of which nothing is kept, and may be as short as it likes.
        epochs: most epochs of the phase, >= 1 (``sft.epochs``).
        updates: most updates of the policy in the phase, >= 1.
        goes_on: whether anything follows, which needs one more of each.

    Raises:
        ConfigError: ``trainer.max_epochs`` or ``trainer.max_steps`` would end the run before.
    """
    limits = (("max_epochs", trainer.max_epochs, epochs + goes_on), ("max_steps", trainer.max_steps, updates + goes_on))
    for key, limit, needed in limits:
        if limit is not None and 0 <= limit < needed and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ConfigError(
                f"trainer.{key} ends the run before the SFT phase is over (sft.epochs: {epochs}).",
                expected=f"trainer.{key} of at least {needed}, or -1",
                got=limit,
                remedy=f"set trainer.{key}: -1, since the run ends by itself, or lower sft.epochs",
            )
