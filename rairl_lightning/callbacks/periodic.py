"""What the evaluations during training have in common: when they run and which questions they may see."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.run_folder import take_back_rows
from rairl_lightning.evaluation.sampling import Answered, answer_questions
from rairl_lightning.types import Demonstration


def log_once(trainer: Trainer, module: PairModule, metrics: dict[str, float]) -> None:
    """Log at this training step alone; ``module.log`` repeats a value at every later step of the epoch."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=module.last_step)


def answered_by(
    module: PairModule,
    questions: Sequence[Demonstration],
    samples: int,
    *,
    seed: int,
    temperature: float | None = None,
) -> Answered:
    """The policy's own answers, graded as its data are; arguments as :func:`answer_questions`."""
    return answer_questions(
        module.models.policy,
        module.sampler,
        module.codec,
        questions,
        samples,
        seed=seed,
        temperature=temperature,
        grader=module.grader,
    )


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation on the selection split found.

    Attributes:
        batches: training steps before it, as the module's clock counts them.
        metrics: by name, without the split's prefix.
        rows: what the files of the run's folder got, in the first process alone.
    """

    batches: int
    metrics: dict[str, float]
    rows: list[dict[str, Any]]


class PeriodicEvaluation(Callback):
    """Evaluates on the selection split every few rounds, and on the test split in ``rairl test``.

    A run without rounds (SFT) is evaluated once, at its end. A round whose update ``Health`` skips is left out.

    Args:
        every_n_rounds: rounds between two evaluations, >= 1.
        questions: most questions of the split to use, >= 1.
    """

    appends_to: ClassVar[tuple[str, ...]] = ()
    """Files of the run's folder that grow by rows with ``round`` and ``split``."""
    latest: Evaluation | None = None
    """Of this start; for those who tell of it."""

    def __init__(self, every_n_rounds: int, questions: int) -> None:
        if min(every_n_rounds, questions) < 1:
            raise ConfigError(
                f"{type(self).__name__} cannot run with these settings.",
                expected="every_n_rounds, questions >= 1",
                got=f"{every_n_rounds}, {questions}",
            )
        self.every_n_rounds, self.questions = every_n_rounds, questions
        self.rows: list[dict[str, Any]] = []

    @abstractmethod
    def evaluate(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, float]:
        """Metrics on ``split`` by name, without the split's prefix; leaves what it wrote to files in ``rows``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take back what a run that was stopped had written behind the checkpoint that it goes on from."""
        if trainer.is_global_zero and trainer.ckpt_path is not None and isinstance(pl_module, RoundsModule):
            for name in self.appends_to:
                take_back_rows(Path(trainer.default_root_dir) / name, pl_module.clock.round)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate on the selection split where it is due."""
        if not isinstance(pl_module, RoundsModule) or pl_module.clock.phase is not Phase.ADVERSARIAL:
            return
        if pl_module.skipped_updates:  # players that may not rank anything; Health is about to put them back
            return
        if pl_module.clock.round and pl_module.clock.round % self.every_n_rounds == 0:
            self._log(trainer, pl_module, "selection")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate a run without rounds."""
        if isinstance(pl_module, RoundsModule) and pl_module.rounds == 0:
            self._log(trainer, pl_module, "selection")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate on the test split."""
        if isinstance(pl_module, RoundsModule):
            self._log(trainer, pl_module, "test")

    def _log(self, trainer: Trainer, module: RoundsModule, split: str) -> None:
        if not self.examples(trainer, split):
            warnings.warn(f"{type(self).__name__}: the {split} split is empty, nothing is evaluated.", stacklevel=2)
            return
        with trainer.precision_plugin.forward_context():  # as in training; callbacks run outside of it
            found = self.evaluate(trainer, module, split)
        metrics = {f"{split}/{name}": value for name, value in found.items()}
        if split == "test":
            module.log_dict(metrics)
        else:
            self.latest = Evaluation(module.clock.batches, found, self.rows)
            log_once(trainer, module, metrics)

    def examples(self, trainer: Trainer, split: str) -> Sequence[Demonstration]:
        """The first ``questions`` examples of the split."""
        return trainer.datamodule.examples(split)[: self.questions]  # type: ignore[attr-defined]
