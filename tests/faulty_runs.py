"""A short run through all phases for the tests of faults, which says how far it is and may kill itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gates
import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint

from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.callbacks import AdapterCheckpoint, InterruptCheckpoint, TraceLogger
from rairl_lightning.callbacks.checkpoint_files import chosen
from rairl_lightning.components import Fixed

FORK = get_context("fork")
STEPS = {"sft": range(0, 8), "warm-up": range(8, 10), "adversarial": range(10, 13)}
"""Training steps of each phase of :func:`module`."""
ALL = 13
Moment = tuple[int, float]
"""A step, and the part of a step's time that has passed in it."""


def module(base: Path) -> Any:
    """Two epochs of SFT, two steps of warm-up, three rounds; dropout, so that randomness counts."""
    sft = SFTInitialisation(2, patience=2, monitor="log_likelihood")
    short = {"warmup": Warmup(2), "discriminator_updates": Fixed(1), "rounds": 3}
    return gates.module(gates.shared(base, dropout=0.1), sft=sft, **short)


class Marks(Checkpoint):
    """Keeps, for other processes to read, at which step the run began and which it has behind it, saved.

    A Checkpoint, so that it comes after AdapterCheckpoint, which saves every step but those of SFT.
    """

    def __init__(self) -> None:
        self.began, self.saved = FORK.Value("i", -1), FORK.Value("i", -1)
        self.at: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if self.began.value < 0:
            self.began.value = pl_module.clock.batches
        self.at.append(time.perf_counter())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.clock.phase is not Phase.SFT and pl_module.clock.discriminator_updates:
            self.saved.value = pl_module.clock.batches


class Killed(Callback):
    """SIGKILL to the own process: at the beginning of a step, or later, from a thread, in the middle of anything."""

    def __init__(self, moment: Moment, seconds: float) -> None:
        self.step, self.delay = moment[0], moment[1] * seconds

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.clock.batches == self.step and not self.delay:
            os.kill(os.getpid(), signal.SIGKILL)
        if pl_module.clock.batches == self.step:
            threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def fit(base: Path, folder: Path, marks: Marks, callbacks: Any = (), build: Any = module, **settings: Any) -> None:
    """Start, or go on from the furthest checkpoint; what is there at the end goes to ``final.pt``."""
    torch.manual_seed(0)
    path = chosen("last", folder, fit=True) if (folder / "checkpoints").exists() else None
    saving = [TraceLogger(every_n_rounds=1), AdapterCheckpoint(every_n_rounds=1), InterruptCheckpoint(), marks]
    fitted = build(base)
    trainer = gates.trainer(folder, [*callbacks, *saving], limit_val_batches=1.0, **settings)
    trainer.fit(fitted, datamodule=gates.data(), ckpt_path=path)
    if trainer.is_global_zero:
        torch.save({"state": gates.everything(fitted, trainer), "at": marks.at}, folder / "final.pt")


def fit_and_die(base: Path, folder: Path, marks: Marks, moment: Moment, seconds: float) -> None:
    """:func:`fit`, killed at a moment, or behind the end of it."""
    fit(base, folder, marks, [Killed(moment, seconds)])
    time.sleep(60)


def final(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "final.pt", weights_only=True)


CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "shutil.copyfile")


def on_each_change(do: Callable[[str], None]) -> None:
    """Call ``do`` with the path right before each change of the file system by this process, from now on."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        opened = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if opened or event in CHANGES:
            for path in args[: 2 if event in ("os.rename", "os.link", "shutil.copyfile") else 1]:
                with suppress(TypeError, OSError):  # a number of an open file; a system without /proc
                    relative = event in CHANGES and isinstance(args[-1], int) and args[-1] >= 0
                    folder = os.readlink(f"/proc/self/fd/{args[-1]}") if relative else os.getcwd()
                    do(os.path.abspath(os.path.join(folder, os.fsdecode(path))))

    sys.addaudithook(hook)
