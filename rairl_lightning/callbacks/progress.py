"""One line that says where the run stands: phase, how far, and the figures that matter."""

from __future__ import annotations

from typing import Any

import rich
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.algorithms.rounds import RoundsModule

FIGURES = {
    Phase.SFT: (("loss", "sft/loss"), ("pass@1", "selection/pass@1")),
    Phase.WARMUP: (("D loss", "discriminator/loss"), ("AUROC", "discriminator/heldout_auroc")),
    Phase.ADVERSARIAL: (
        ("reward", "reward/mean"),
        ("agree", "rollouts/agreement"),
        ("AUROC", "discriminator/heldout_auroc"),
        ("KL", "policy/kl"),
    ),
}


class RoundProgress(Callback):
    """A rich progress bar in a terminal; elsewhere a line at every tenth of a phase.

    Set ``trainer.enable_progress_bar: false`` beside it, or Lightning draws its own bar as well.
    """

    def __init__(self) -> None:
        self._console: Console = rich.get_console()  # everybody's, so that tables stand above the bar
        self._progress: Progress | None = None
        self._tasks: dict[Phase, Any] = {}
        self._printed: tuple[Phase, int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        if trainer.is_global_zero and self._console.is_terminal:
            columns = (
                TextColumn("{task.description:>12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            self._progress = Progress(*columns, console=self._console)
            self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar of the phase the step belonged to."""
        if not trainer.is_global_zero or not isinstance(pl_module, RoundsModule):
            return
        phase = pl_module.clock.phase
        done, total = pl_module.position
        figures = "  ".join(
            f"{label} {float(trainer.callback_metrics[name]):.3f}"
            for label, name in FIGURES[phase]
            if name in trainer.callback_metrics
        )
        if self._progress is not None:
            self._draw(self._progress, phase, pl_module.title(phase), done, total, figures)
        elif (tenth := (phase, 10 * done // max(1, total))) != self._printed:
            self._printed = tenth
            self._console.print(f"{pl_module.title(phase):>12} {done}/{total}  {figures}", highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._close()

    def _draw(self, progress: Progress, phase: Phase, title: str, done: int, total: int, figures: str) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = progress.add_task(title, total=total, figures="")
        progress.update(self._tasks[phase], completed=done, figures=figures)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()
