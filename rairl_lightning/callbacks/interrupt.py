"""Ctrl-C and SIGTERM stop between rounds and leave a checkpoint."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.phases import Phase

_ASKED = b"\nStopping after this round, then saving. Ctrl-C again stops at once, without saving.\n"


class InterruptCheckpoint(Callback):
    """Finish the round under way, save ``<default_root_dir>/interrupted.ckpt``, stop.

    Inside a round the discriminator may have moved and the policy not, so nothing is saved there. Nor from the
    last step of an SFT epoch to the first behind it: Lightning would not validate that epoch again, and it would not
    be among those to choose from. Lightning alone would lose the run: it saves nothing on either signal, and exits
    with 0 on SIGTERM. The command line adds this callback itself.
    """

    filename = "interrupted.ckpt"

    def __init__(self) -> None:
        self._asked = self._fitting = self._in_round = self._epoch_ends = self._sigterm = False
        self._previous: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stand last, and once: the other callbacks must have seen the round's end before the run stops there."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [one for one in callbacks if not isinstance(one, InterruptCheckpoint)]
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for Ctrl-C."""
        self._asked = self._in_round = self._epoch_ends = self._sigterm = False
        self._fitting = True
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, lambda *_: self._ask(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening."""
        self._stop_listening()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A round begins: nothing can be saved."""
        self._in_round = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A round is over: stop here if any process was asked to, unless an SFT epoch ends with it.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SIGTERMException: after SIGTERM.
        """
        self._in_round, self._epoch_ends = False, _in_sft(pl_module) and trainer.is_last_batch
        self._hold_sigterm(trainer)
        if self._epoch_ends:
            return
        if self._agreed(trainer, self._sigterm or trainer.received_sigterm):
            raise SIGTERMException
        if self._agreed(trainer, self._asked):
            raise KeyboardInterrupt

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Let the validation of an SFT epoch finish."""
        self._hold_sigterm(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the epoch be counted."""
        self._hold_sigterm(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, if both players stand at the end of the same round."""
        stopped = self._fitting and isinstance(exception, KeyboardInterrupt | SIGTERMException)
        self._stop_listening()
        if stopped and (self._in_round or self._between_epochs(trainer)):
            where = "inside a round" if self._in_round else "between two SFT epochs"
            rank_zero_info(f"Stopped {where}: nothing was saved, the last checkpoint stands.")
        elif stopped:
            rank_zero_info(f"Saved {self._save(trainer)}. Continue with --ckpt_path.")

    def _ask(self, trainer: Trainer) -> None:
        # Evaluation changes nothing, so one process need not wait for its end; several must stop together.
        evaluating = trainer.validating or (trainer.should_stop and not self._in_round)
        if self._asked or (evaluating and trainer.world_size == 1 and not self._between_epochs(trainer)):
            raise KeyboardInterrupt
        self._asked = True
        os.write(2, _ASKED)  # print() may not be re-entered from a signal handler

    def _between_epochs(self, trainer: Trainer) -> bool:
        over = trainer.should_stop and not _in_sft(trainer.lightning_module)
        return self._epoch_ends and not over  # a run that is over is not continued, whatever is saved of it

    def _hold_sigterm(self, trainer: Trainer) -> None:
        # Lightning would raise by itself, inside the validation or behind it, and cannot be told to wait.
        if self._epoch_ends and trainer.received_sigterm:
            self._sigterm, trainer._signal_connector.received_sigterm = True, False

    def _stop_listening(self) -> None:
        self._fitting = False
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _save(self, trainer: Trainer) -> Path:
        final = Path(trainer.default_root_dir) / self.filename
        partial = final.with_name(f"{final.name}.partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            partial.replace(final)
        return final

    @staticmethod
    def _agreed(trainer: Trainer, asked: bool) -> bool:
        return asked if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(asked, all=False)


def _in_sft(module: LightningModule) -> bool:
    return isinstance(module, PairModule) and module.clock.phase is Phase.SFT
