"""What a component needs from the rest of the configuration, asked before training rather than in the middle of it."""

from __future__ import annotations

from collections.abc import Iterable

from rairl_lightning.errors import ConfigError


def require_probe(callbacks: Iterable[object]) -> None:
    """Some callback measures the discriminator's held-out AUROC.

    Raises:
        ConfigError: none does.
    """
    if not any(getattr(callback, "measures_heldout_auroc", False) for callback in callbacks):
        raise ConfigError(
            "discriminator_updates follows the held-out AUROC, which nobody measures.",
            expected="a callback that measures it",
            got="none",
            remedy="add rairl_lightning.callbacks.DiscriminatorProbe to trainer.callbacks, or use Fixed",
        )
