"""``trainer.fast_dev_run``: some rounds of every phase and of every evaluation, of which nothing is kept."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rairl_lightning.algorithms.rounds import RoundsModule

MOST = {
    "every_n_rounds": 1,
    "every_n_updates": 1,
    "questions": 2,
    "samples": 2,
    "policy_samples": 1,
    "demonstrations": 8,
}
"""What settings of callbacks are lowered to."""


class DryRun(Callback):
    """Shortens a run to ``trainer.fast_dev_run`` rounds of each phase that is configured, and says what took place.

    Lightning alone would stop after the first batches, which are those of the first phase. The steps are those of the
    run, with its batch and group sizes, so that what does not fit the memory does not fit here. The command line adds
    this callback, and gives the run a folder that is removed.
    """

    def __init__(self) -> None:
        self._steps: Counter[str] = Counter()
        self._evaluated: Counter[str] = Counter()
        self._start = time.perf_counter()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Shorten phases and evaluations."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for name, most in MOST.items():
                if isinstance(value := vars(callback).get(name), int):
                    setattr(callback, name, min(value, most))
        if stage == "fit" and isinstance(pl_module, RoundsModule):
            pl_module.shorten(int(trainer.fast_dev_run))  # type: ignore[attr-defined]
            trainer.fit_loop.max_epochs = trainer.fit_loop.epoch_loop.max_steps = -1  # the module stops by itself

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the step by its phase."""
        if isinstance(pl_module, RoundsModule):
            self._steps[pl_module.clock.phase.value] += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count a validation."""
        self._evaluated["validations"] += 1

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count a test."""
        self._evaluated["tests"] += 1

    @rank_zero_only
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say what was done and what would have been written."""
        done = [f"{phase} {count}" for phase, count in self._steps.items()]
        if isinstance(pl_module, RoundsModule):
            clock = pl_module.clock
            done += [
                f"updates of the discriminator {clock.discriminator_updates}, of the policy {clock.policy_updates}"
            ]
        done += [f"{name} {count}" for name, count in self._evaluated.items()]
        root = Path(trainer.default_root_dir)
        written = sorted({path.relative_to(root).parts[0] for path in root.rglob("*") if path.is_file()})
        print(f"Dry run, {time.perf_counter() - self._start:.0f} s. Steps: {'; '.join(done)}.")
        print(f"Written and removed: {', '.join(one for one in written if not one.startswith('.')) or 'nothing'}.")
        print(f"Figures above are of {MOST['questions']} questions, to see that they are made; they mean nothing.")
