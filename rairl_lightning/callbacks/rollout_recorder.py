"""Carries each round's negatives from the module to the data module's replay buffer: the loop without a circle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.types import TokenBatch


class RolloutRecorder(Callback):
    """Pushes the ``negatives`` that ``training_step`` returns into ``trainer.datamodule.buffer``."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember this round's negatives."""
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(outputs, Mapping) or not isinstance(datamodule, DemonstrationDataModule):
            return
        negatives = outputs.get("negatives")
        if isinstance(negatives, TokenBatch):
            datamodule.buffer.push(negatives)
