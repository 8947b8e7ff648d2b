"""The C++ of this package as a library: compiled for this very CPU, once, and kept in the user's cache."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp")
SECONDS = 120.0
SWITCH = "RAIRL_NATIVE"
"""Environment variable; 0 does without."""
COMPILERS = ("c++", "g++", "clang++")


class _NoLibraryError(Exception):
    """Says why there is none."""


def library(name: str) -> ctypes.CDLL | None:
    """What ``cpp/NAME.cpp`` compiles to; None where that cannot be had, see :func:`why_not`."""
    return _found(name)[0]


Signatures = Mapping[str, tuple[Any, Sequence[Any]]]
"""What each function returns and takes, by its name without ``rairl_``."""


def bound(name: str, signatures: Signatures) -> Any:
    """The library, which must be there, with the types of its functions."""
    found = library(name)
    assert found is not None, f"{name} is not there: {why_not(name)}"
    for own, (result, arguments) in signatures.items():
        function = getattr(found, f"rairl_{own}")
        function.restype, function.argtypes = result, list(arguments)
    return found


def why_not(name: str) -> str:
    """Why there is no such library; empty where there is one."""
    return _found(name)[1]


def compiler_found() -> bool:
    """Whether there is a compiler to try; compiles nothing."""
    try:
        return bool(_compiler())
    except _NoLibraryError:
        return False


def compiler_line() -> str:
    """The compiler in one line, or why there is none; compiles nothing."""
    try:
        said = _version(_compiler(), seconds=10.0).decode(errors="replace").strip()
    except (_NoLibraryError, OSError, subprocess.SubprocessError) as error:
        return f"none: {error}"
    return said.partition("\n")[0] or "of no name"


@functools.cache
def _found(name: str) -> tuple[ctypes.CDLL | None, str]:
    try:
        return _load(name), ""
    except (_NoLibraryError, OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        return None, str(error)


def _load(name: str) -> ctypes.CDLL:
    compiler = _compiler()
    source, target = SOURCES / f"{name}.cpp", f"{name}-{_digest(compiler)}.so"
    folder = cache_folder()
    if folder is not None and (kept := _kept(compiler, source, folder / target)) is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix="rairl-native-") as temporary:  # once loaded, the file may go
        return ctypes.CDLL(str(_compiled(compiler, source, Path(temporary) / target)))


def _kept(compiler: str, source: Path, target: Path) -> ctypes.CDLL | None:
    """The library in the cache, compiled if it is not there; None where it cannot be kept or loaded there."""
    if target.is_file():
        try:
            return ctypes.CDLL(str(target))
        except OSError:  # cut short when the power failed: once more
            with contextlib.suppress(OSError):
                target.unlink()
    try:
        return ctypes.CDLL(str(_compiled(compiler, source, target)))
    except OSError:  # a full disk, or one from which nothing may be run
        return None


def cache_folder() -> Path | None:
    """Where compiled files are kept, in ``$XDG_CACHE_HOME``; None where others may write to it, or there is no home."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(root) / "rairl_lightning"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):
        return None
    # What others can write to is nothing to load code from.
    ours = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return folder if ours else None


def _compiler() -> str:
    if os.environ.get(SWITCH) == "0":
        raise _NoLibraryError(f"{SWITCH}=0")
    for name in filter(None, (os.environ.get("CXX"), *COMPILERS)):
        if (found := shutil.which(name)) is not None:
            return found
    raise _NoLibraryError(f"no C++ compiler ({', '.join(COMPILERS)}, or $CXX)")


def _digest(compiler: str) -> str:
    """What a compiled file depends on: the sources, the compiler, and the CPU, for a home may be on many machines."""
    parts = [b" ".join(map(str.encode, FLAGS)), compiler.encode(), _version(compiler), _processor().encode()]
    parts += [path.name.encode() + b"\n" + path.read_bytes() for path in sorted(SOURCES.iterdir())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _version(compiler: str, seconds: float = SECONDS) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, timeout=seconds, check=False).stdout


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return " ".join(platform.uname())
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))


def _compiled(compiler: str, source: Path, target: Path) -> Path:
    """Compile beside the target and rename: processes that start together each find a whole file."""
    with tempfile.TemporaryDirectory(prefix=".compiling-", dir=target.parent) as temporary:
        made = Path(temporary) / target.name
        command = [compiler, *FLAGS, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        if done.returncode != 0 or not made.is_file():
            raise _NoLibraryError(f"{compiler} failed: {done.stderr.decode(errors='replace').strip()[:500]}")
        with made.open("rb") as written:
            os.fsync(written.fileno())
        made.replace(target)
    return target
