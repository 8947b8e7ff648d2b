"""Ctrl-C, SIGTERM and SLURM's requeue signal take effect between rounds, and leave a checkpoint."""

import os
import signal
import threading
from enum import IntEnum
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.callbacks.checkpoint_io import write_whole_checkpoints
from rairl_lightning.functional.processes import largest

_ASKED = b"\nStopping after this round, then saving. Ctrl-C again stops at once, without saving.\n"


class Wish(IntEnum):
    """What a process was asked for; of several processes the greatest counts."""

    GO_ON = 0
    REQUEUE = 1
    STOP = 2
    TERMINATE = 3


class InterruptCheckpoint(Callback):
    """Finish the round under way, save ``<default_root_dir>/interrupted.ckpt``, stop.

    Inside a round the discriminator may have moved and the policy not, so nothing is saved there. Nor from the
    last step of an SFT epoch to the first behind it: Lightning would not validate that epoch again, and it would not
    be among those to choose from. Lightning alone would lose the run: it saves nothing on either signal, exits with 0
    on SIGTERM, and talks to the other processes in the middle of a round. Whichever process is signalled, all stop
    after the same round. Under SLURM with auto-requeue, Lightning's own handler saves and requeues, but after the round
    too. The command line adds this callback itself.
    """

    filename = "interrupted.ckpt"

    def __init__(self) -> None:
        self._wish = Wish.GO_ON
        self._fitting = self._in_round = self._epoch_ends = False
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stand last, and once: the other callbacks must have seen the round's end before the run stops there."""
        write_whole_checkpoints(trainer)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [one for one in callbacks if not isinstance(one, InterruptCheckpoint)]
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for the signals, in the place of Lightning."""
        self._wish = Wish.GO_ON
        self._in_round = self._epoch_ends = False
        self._fitting = True
        if threading.current_thread() is threading.main_thread():
            self._listen(signal.SIGINT, lambda *_: self._ask(trainer))
            self._listen(signal.SIGTERM, lambda *_: self._terminate(trainer))
            environment = trainer._accelerator_connector.cluster_environment
            if isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal:
                self._listen(environment.requeue_signal, lambda *_: self._wished(Wish.REQUEUE))

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
        if self._epoch_ends:
            return
        match largest(self._wish, pl_module.device):
            case Wish.TERMINATE:
                raise SIGTERMException
            case Wish.STOP:
                raise KeyboardInterrupt
            case Wish.REQUEUE:
                self._requeue()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, if both players stand at the end of the same round."""
        stopped = self._fitting and isinstance(exception, KeyboardInterrupt | SIGTERMException)
        self._stop_listening()
        if stopped and (self._in_round or self._between_epochs(trainer)):
            where = "inside a round" if self._in_round else "between two SFT epochs"
            rank_zero_info(f"Stopped {where}: nothing was saved, the last checkpoint stands.")
        elif stopped:
            rank_zero_info(f"Saved {self._save(trainer)}. Continue with --ckpt_path last.")

    def _ask(self, trainer: Trainer) -> None:
        if self._wish is Wish.STOP or self._may_stop_now(trainer):
            raise KeyboardInterrupt
        self._wished(Wish.STOP)
        os.write(2, _ASKED)  # print() may not be re-entered from a signal handler

    def _terminate(self, trainer: Trainer) -> None:
        if self._may_stop_now(trainer):
            raise SIGTERMException
        self._wished(Wish.TERMINATE)

    def _may_stop_now(self, trainer: Trainer) -> bool:
        # Evaluation changes nothing, so one process need not wait for its end; several must stop together.
        evaluating = trainer.validating or (trainer.should_stop and not self._in_round)
        return evaluating and trainer.world_size == 1 and not self._between_epochs(trainer)

    def _wished(self, wish: Wish) -> None:
        self._wish = max(self._wish, wish)

    def _requeue(self) -> None:
        """Let Lightning save and requeue the job; it trains on until SLURM ends it."""
        self._wish = Wish.GO_ON
        for number, handler in self._previous.items():
            if number not in (signal.SIGINT, signal.SIGTERM):
                handler(number, None)

    def _between_epochs(self, trainer: Trainer) -> bool:
        over = trainer.should_stop and not _in_sft(trainer.lightning_module)
        return self._epoch_ends and not over  # a run that is over is not continued, whatever is saved of it

    def _listen(self, number: int, handler: Any) -> None:
        self._previous[number] = signal.signal(number, handler)

    def _stop_listening(self) -> None:
        self._fitting = False
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _save(self, trainer: Trainer) -> Path:
        final = Path(trainer.default_root_dir) / self.filename
        partial = final.with_name(f"{final.name}.partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            partial.replace(final)
        return final


def _in_sft(module: LightningModule) -> bool:
    return isinstance(module, PairModule) and module.clock.phase is Phase.SFT
