"""What tells people of an evaluation has to look when all is measured."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.interrupt import InterruptCheckpoint
from rairl_lightning.callbacks.periodic import Evaluation, PeriodicEvaluation

Found = dict[type[PeriodicEvaluation], Evaluation]


class Behind(Callback):
    """Stands behind what evaluates and judges a step, wherever it is listed, and before what saves it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the place; ``Health`` leaves it free."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        saving = [one for one in callbacks if isinstance(one, Checkpoint | InterruptCheckpoint)]
        others = [one for one in callbacks if one is not self and one not in saving]
        trainer.callbacks = [*others, self, *saving]  # type: ignore[attr-defined]


class Onlooker(Behind):
    """Tells of the evaluations of a step, once all of them are there."""

    _seen = -1

    @abstractmethod
    def look(self, trainer: Trainer, module: RoundsModule, found: Found) -> None:
        """Tell of the evaluations of this step, in every process.

        Args:
            trainer: has what else was logged in ``callback_metrics``.
            module: the algorithm.
            found: at least one, by the class that evaluated.
        """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look where something was evaluated."""
        self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run without rounds is evaluated at its end."""
        self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        if not isinstance(module, RoundsModule) or module.clock.batches == self._seen:
            return
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        evaluations = {type(one): one.latest for one in callbacks if isinstance(one, PeriodicEvaluation)}
        found = {kind: one for kind, one in evaluations.items() if one and one.batches == module.clock.batches}
        if found:
            self._seen = module.clock.batches
            self.look(trainer, module, found)
