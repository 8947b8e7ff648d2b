"""Figures and texts for whichever logger takes them: TensorBoard, Weights & Biases, and what has their methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from rairl_lightning.algorithms.base import PairModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class TakesImages(Protocol):
    """A logger such as Lightning's ``WandbLogger``."""

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Show figures under one name."""


@runtime_checkable
class TakesTexts(Protocol):
    """Likewise, for tables of texts."""

    def log_text(
        self, key: str, columns: list[str] | None, data: list[list[Any]] | None, *, step: int | None = None
    ) -> None:
        """Show a table."""


def shows_figures(trainer: Trainer) -> bool:
    """Whether this process has a logger to show figures in, so that nobody draws for none."""
    return trainer.is_global_zero and any(isinstance(one, TensorBoardLogger | TakesImages) for one in trainer.loggers)


def show_figure(trainer: Trainer, module: PairModule, name: str, figure: Figure) -> None:
    """Show a figure at this training step, in the first process.

    Args:
        trainer: its loggers are asked; one that takes no figures gets none.
        module: knows the step.
        name: parts are joined by ``/``.
        figure: made without pyplot, so that nothing keeps it.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, module.last_step)
        elif isinstance(logger, TakesImages):
            logger.log_image(name, [figure], step=module.last_step)


def show_text(
    trainer: Trainer, module: PairModule, name: str, markdown: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Show a text at this training step, in the first process.

    Args:
        trainer: its loggers are asked; one that takes no texts gets none.
        module: knows the step.
        name: parts are joined by ``/``.
        markdown: for those that render it.
        rows: the same for those that show tables, all with the same keys.
    """
    if not trainer.is_global_zero or not rows:
        return
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown, module.last_step)
        elif isinstance(logger, TakesTexts):
            logger.log_text(name, list(rows[0]), [list(row.values()) for row in rows], step=module.last_step)
