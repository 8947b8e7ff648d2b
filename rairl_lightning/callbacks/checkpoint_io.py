"""Writing checkpoints so that whatever stops the process or the machine, the one before is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the file's place, makes sure that the disk has it, and renames.

    Lightning's own builds the file in memory and lays it down in the folder for temporary files: a large checkpoint
    takes its size twice, fails where that folder is small, and is left there by a process that is killed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save tensors and plain values under ``path``; the file is whole or not there.

        Raises:
            OSError: the disk is full, or the folder cannot be written; what was begun is removed.
        """
        if "://" in str(path) or storage_options is not None:  # another file system, through fsspec
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f"{final.name}.writing")
        try:
            _write(checkpoint, partial)
            partial.replace(final)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)  # on a full disk it would be in the way of the next
            raise
        _sync_folder(final.parent)


def write_whole_checkpoints(trainer: Trainer) -> None:
    """Have ``trainer`` write by :class:`WholeCheckpointIO`, unless somebody chose otherwise."""
    with suppress(NotImplementedError):  # strategies that write their own files
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()


def put_folder(new: Path, name: Path) -> None:
    """Give a whole folder its name, in the place of an earlier one: two renames, and no file of one in the other."""
    old = name.with_name(f"{name.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if name.exists():
        name.rename(old)
    new.rename(name)
    shutil.rmtree(old, ignore_errors=True)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's writer reports the failed write by one of its own
            if (cause := _cause(error)) is None:
                raise
            raise cause from error
        file.flush()
        os.fsync(file.fileno())


def _cause(error: BaseException) -> OSError | None:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _sync_folder(folder: Path) -> None:
    """The new name, too, must outlive the machine; not every system opens a folder."""
    with suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
