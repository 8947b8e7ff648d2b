"""Which code made a result, and where. Nothing heavy is imported: ``rairl --version`` says the same."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rairl_lightning import __version__
from rairl_lightning.native import compiler_line

REPORTED = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "jsonargparse")
_PACKAGE = Path(__file__).resolve().parent


def commit() -> str:
    """Short hash of the checkout that the package runs from, ``-dirty`` if it differs; ``unknown`` outside of one.

    An installation in an environment that lies in somebody's checkout is outside: that checkout does not track it.
    """
    return (_described(_PACKAGE) if _checkout() is not None else None) or "unknown"


def repository(folder: Path) -> str | None:
    """Name and commit of the checkout that ``folder`` is in; None outside of one, and in that of the package."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return None if top in (None, _checkout()) else f"{Path(str(top)).name} at {_described(folder) or 'no commit'}"


def provenance() -> list[str]:
    """Command, commits, versions and device, a line each."""
    own, *others = versions()
    around = repository(Path.cwd())
    return [
        f"command {shlex.join(['rairl', *sys.argv[1:]])}",
        f"{own}, commit {commit()}",
        *([f"repository {around}"] if around is not None else []),
        *others,
    ]


def versions() -> list[str]:
    """Versions of what decides whether two runs agree, ours first, and the devices."""
    lines = [f"rairl_lightning {__version__}", f"python {platform.python_version()}"]
    for name in REPORTED:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return [*lines, f"C++ compiler {compiler_line()}", *devices()]


def devices() -> list[str]:
    """A line an accelerator, as its driver names it (torch would take seconds to load); the CPU where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    found = (_said(query) or "").splitlines()
    return [f"device {line}" for line in found] or [f"device cpu, {platform.machine()}, {os.cpu_count()} cores"]


def _checkout() -> str | None:
    """The checkout whose files the package is made of."""
    tracked = _git(_PACKAGE, "ls-files", "--error-unmatch", Path(__file__).name) is not None
    return _git(_PACKAGE, "rev-parse", "--show-toplevel") if tracked else None


def _described(folder: Path) -> str | None:
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    return _said(["git", *arguments], folder)


def _said(command: list[str], folder: Path | None = None) -> str | None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
