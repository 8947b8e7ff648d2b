"""A run has its folder to itself: no second run writes there, and files of an earlier one are put aside, not mixed."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from rairl_lightning.callbacks.checkpoint_files import FOLDER, PATTERNS, steps_behind
from rairl_lightning.errors import CheckpointError
from rairl_lightning.evaluation.run_folder import (
    CONFIG,
    EARLIER,
    HEALTH,
    LEAKS,
    LOCALISATION,
    RERANKING,
    SUMMARY,
    TOKEN_REWARDS,
    TRACES,
)

LOCK = ".running"
REPORTS = (TRACES, TOKEN_REWARDS, RERANKING, LOCALISATION, HEALTH, LEAKS, SUMMARY)
RESULTS = (FOLDER, "adapters", "interrupted.ckpt", *REPORTS)
"""What makes a folder that of a run, beside its curves; a configuration alone is of one that came to nothing."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class RunLock:
    """Held while a run writes to its folder; the system lets go of it when the process ends, however it ends.

    Args:
        run: the run's folder, made if it is not there.

    Raises:
        CheckpointError: another process holds it.
        OSError: nothing can be written there.
    """

    def __init__(self, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self.path = run / LOCK
        self._file: IO[str] = self.path.open("a+", encoding="utf-8")
        try:
            _lock(self._file)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise CheckpointError(
                f"Another run is writing to {run}.",
                expected="a folder of its own for each run",
                got=holder,
                remedy="set --trainer.default_root_dir to another folder, or wait for that run to end",
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()  # the file stays: to remove it would let two processes lock two files of one name


class OneFolder(Callback):
    """Every process of a run writes to the folder of the first: a name with the time in it may differ."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over the folder, before anything is written."""
        folder = trainer.strategy.broadcast(trainer.default_root_dir)
        trainer._default_root_dir = folder  # type: ignore[attr-defined]


def put_aside(run: Path, continues: Path | None, others: Iterable[Path] = ()) -> Path | None:
    """Make room for a run.

    A run that goes on from a checkpoint of its own folder finds everything as it was, but for checkpoints that are
    further than that one: they are of another future. Every other run finds nothing of an earlier one.

    Args:
        run: the run's folder.
        continues: the checkpoint that it goes on from.
        others: further files and folders of a run, such as its loggers'; what lies outside of ``run`` is left alone.

    Returns:
        ``run/earlier/NNN``, which holds what was put aside; None if there was nothing.
    """
    if continues is not None and _is_of(continues, run):
        return _put_aside_later_ones(run, steps_behind(continues))
    found = [run / name for name in RESULTS if (run / name).exists()]
    found += sorted(run.glob("hpc_ckpt_*.ckpt"))
    inside = [path for path in others if path.exists() and run.resolve() in path.resolve().parents]
    if not found and not inside:
        return None
    aside = _new_folder(run)
    for path in [*found, *inside, run / CONFIG]:
        if path.exists():
            path.rename(aside / path.name)
    rank_zero_info(f"This run starts anew: what an earlier one left in {run} is now in {aside}.")
    return aside


def _is_of(checkpoint: Path, run: Path) -> bool:
    """Whether a checkpoint lies in the run's folder, and not among what was put aside."""
    place = checkpoint.resolve()
    return run.resolve() in place.parents and EARLIER not in place.relative_to(run.resolve()).parts


def _put_aside_later_ones(run: Path, steps: int) -> Path | None:
    if steps < 0:  # of another kind than ours: nobody can say what is later
        return None
    later = [path for pattern in PATTERNS for path in sorted(run.glob(pattern)) if steps_behind(path) > steps]
    if not later:
        return None
    aside = _new_folder(run)
    for path in later:
        target = aside / path.relative_to(run)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    for name in (*REPORTS, CONFIG):
        if (run / name).exists():
            shutil.copy2(run / name, aside / name)
    names = ", ".join(path.name for path in later)
    rank_zero_info(f"This run goes on from an earlier checkpoint: {names} and copies of the reports are in {aside}.")
    return aside


def _new_folder(run: Path) -> Path:
    number = 1
    while (aside := run / EARLIER / f"{number:03d}").exists():
        number += 1
    aside.mkdir(parents=True)
    return aside


def _lock(file: IO[str]) -> None:
    """Lock for this process alone: its children inherit the file, but no lock of this kind.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # a file system without locks
            return
        raise BlockingIOError(*error.args) from error
