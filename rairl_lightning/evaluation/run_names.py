"""Names of run folders that nobody chose: ``runs/2026-11-29_141530_rairl-gsm8k``, sortable, legible, found again."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

RUNS = Path("runs")
"""Where they are, in the current folder."""
LATEST = "latest"
"""A link in :data:`RUNS` to the run that was started last."""
_DATED = re.compile(r"\d{4}-\d\d-\d\d_\d{6}_(?P<slug>.+?)(?:-job\d+|\.\d+)?")


def folder_of(slug: str, ckpt_path: str | None, *, fit: bool) -> Path:
    """The folder of a run that was given none.

    A run that goes on has the one it had: that of its checkpoint; with ``last`` or ``best``, the newest of the same
    algorithm and data; under SLURM that of the same job, which is started again under its number.

    Args:
        slug: what the run is, such as ``rairl-gsm8k``.
        ckpt_path: as the user gave it.
        fit: whether a new one may be made; not for an evaluation.

    Returns:
        A path below :data:`RUNS`, which need not be there yet; for an evaluation without a run :data:`RUNS` itself.
    """
    if ckpt_path not in (None, "last", "best"):
        inside = Path(str(ckpt_path)).resolve()
        own = next((one for one in inside.parents if one.parent == RUNS.resolve()), None)
        if own is not None:
            return RUNS / own.name
    job = os.environ.get("SLURM_JOB_ID")
    mine = [one for one in _runs_of(slug) if job is not None and one.name.endswith(f"-job{job}")]
    found = mine or (_runs_of(slug) if ckpt_path in ("last", "best") or not fit else [])
    if found:
        return found[-1]
    return _new(slug, job) if fit else RUNS


def latest() -> Path | None:
    """The run that was started last in :data:`RUNS`; None where there is none."""
    linked = RUNS / LATEST
    if linked.is_dir():
        return RUNS / linked.resolve().name if linked.is_symlink() else linked
    return next(reversed(_runs_of(None)), None)


def point_latest(run: Path) -> None:
    """Make the link name ``run``, if that is in :data:`RUNS`; not where the file system has no links."""
    if run.resolve().parent != RUNS.resolve():
        return
    partial = RUNS / f".{LATEST}.{os.getpid()}"
    with suppress(OSError):
        partial.symlink_to(run.name, target_is_directory=True)
        partial.replace(RUNS / LATEST)


def _new(slug: str, job: str | None) -> Path:
    name = f"{datetime.now():%Y-%m-%d_%H%M%S}_{slug}" + (f"-job{job}" if job is not None else "")
    number = 1
    while (RUNS / (full := name if number == 1 else f"{name}.{number}")).exists():
        number += 1
    return RUNS / full


def _runs_of(slug: str | None) -> list[Path]:
    """Dated folders, the oldest first; of one kind, or of all."""
    named = ((path, _DATED.fullmatch(path.name)) for path in sorted(RUNS.glob("*_*_*")) if path.is_dir())
    return [path for path, found in named if found is not None and slug in (None, found["slug"])]
