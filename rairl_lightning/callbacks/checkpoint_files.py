"""Which checkpoint a run goes on from: found by name, and refused while nothing is loaded if it is not whole."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from rairl_lightning.components.description import STATE_KEY
from rairl_lightning.errors import CheckpointError

LAST, BEST = "last", "best"
FOLDER = "checkpoints"
PATTERNS = (f"{FOLDER}/*.ckpt", "interrupted.ckpt", "hpc_ckpt_*.ckpt")
_TORN = (zipfile.BadZipFile, EOFError, UnicodeDecodeError, zlib.error, struct.error)
"""What the reader of archives raises for bytes that are none."""
_UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    UnpicklingError, ValueError,
)  # fmt: skip
"""What torch's restricted unpickler may raise for bytes that somebody arranged."""


def chosen(asked: str, run: Path, *, fit: bool) -> str | None:
    """The file that ``--ckpt_path`` means.

    Args:
        asked: ``last``, the one that is furthest among the whole ones; ``best``; or a path.
        run: the run's folder.
        fit: whether ``last`` may find nothing, as before the first start of a job that is started again and again.

    Returns:
        A path; None where there is nothing to go on from.

    Raises:
        CheckpointError: it is not there, truncated, damaged or foreign; another one is offered.
    """
    if asked == LAST:
        found = furthest(run)
        if found is None and fit:
            rank_zero_warn(f"No whole checkpoint in {run} yet: the run starts from its beginning.")
            return None
        if found is None:
            raise _refused(run / FOLDER, "no whole checkpoint", None)
        return str(found)
    path = run / FOLDER / "best.ckpt" if asked == BEST else Path(asked)
    if (wrong := flaw(path)) is not None:
        raise _refused(path, wrong, furthest(run if asked == BEST else _run_of(path)))
    return str(path)


def furthest(run: Path) -> Path | None:
    """The whole checkpoint with the most training steps behind it: steps, since clocks jump and copies are new.

    Damaged ones are named.
    """
    steps: dict[Path, int] = {}
    for path in sorted(path for pattern in PATTERNS for path in run.glob(pattern)):
        wrong = flaw(path)
        if wrong is None:
            steps[path] = _batches(_content(path)) or 0
        else:
            rank_zero_warn(f"{path} is left out: {wrong}.")
    return max(steps, key=lambda path: (steps[path], path.stem == LAST), default=None)


def flaw(path: Path) -> str | None:
    """What is wrong with a file; None for a whole checkpoint of ours."""
    if not path.is_file():
        return "there is no such file"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares every checksum
        if damaged is not None:
            return f"its part {damaged} is damaged"
        content = _content(path, mapped=False)  # a mapped tensor is not compared with the size it should have
    except _TORN:
        return "it is truncated, or no checkpoint at all"
    except _UNREADABLE as error:
        return f"it cannot be read as tensors and plain values: {str(error).partition(chr(10))[0]}"
    if not isinstance(content, dict) or STATE_KEY not in content:
        return f"it was not written by rairl_lightning (no key {STATE_KEY!r})"
    return None if _batches(content) is not None else f"it does not say how far it is ({STATE_KEY}.clock.batches)"


def _batches(content: Mapping[str, Any]) -> int | None:
    """Training steps behind a checkpoint."""
    state = content[STATE_KEY]
    clock = state.get("clock") if isinstance(state, Mapping) else None
    batches = clock.get("batches") if isinstance(clock, Mapping) else None
    return batches if isinstance(batches, int) else None


def steps_behind(path: Path) -> int:
    """Training steps behind a checkpoint; -1 for one that is not whole."""
    return -1 if flaw(path) is not None else _batches(_content(path)) or 0


def _content(path: Path, mapped: bool = True) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == FOLDER else path.parent


def _refused(path: Path, wrong: str, other: Path | None) -> CheckpointError:
    offer = "start anew without --ckpt_path" if other is None else f"--ckpt_path {other}"
    return CheckpointError(
        f"{path} cannot be continued from.", expected="a whole checkpoint of rairl_lightning", got=wrong, remedy=offer
    )
