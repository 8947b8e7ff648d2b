"""The ledger of the faults, and runs in processes that may be killed.

``make faults`` sets RAIRL_FAULTS to a file: what was tried, what survived it and how many rounds were lost is written
there, and printed as a table in any case.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console
from rich.table import Table

from rairl_lightning.cli import guarded
from rairl_lightning.cli_parser import explain_lost_process

FORK = get_context("fork")
PATIENCE = 400.0
"""Seconds after which a process hangs, on a machine that may stand still for minutes."""


@dataclass
class Tally:
    """One row of the table."""

    fault: str
    tried: int = 0
    survived: int = 0
    lost_rounds: int = 0


LEDGER: dict[str, Tally] = {}


@contextmanager
def trying(fault: str, times: int = 1) -> Iterator[Tally]:
    """What happens inside is one fault, or ``times``; it survived them if it does not raise."""
    tally = LEDGER.setdefault(fault, Tally(fault))
    tally.tried += times
    yield tally
    tally.survived += times


@pytest.fixture(scope="session")
def fault() -> Callable[..., Any]:
    return trying


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, and the file if one is asked for."""
    if not LEDGER:
        return
    table = Table("fault", "times tried", "survived", "lost rounds")
    for tally in LEDGER.values():
        table.add_row(tally.fault, *map(str, (tally.tried, tally.survived, tally.lost_rounds)))
    terminalreporter.ensure_newline()
    Console(file=terminalreporter._tw._file, width=100).print(table)
    if path := os.environ.get("RAIRL_FAULTS"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps([asdict(tally) for tally in LEDGER.values()], indent=2) + "\n")


class Processes:
    """Forks of the test's own process, so that nothing is imported again."""

    def __init__(self) -> None:
        self._started: list[Any] = []
        self._said: dict[Any, IO[str]] = {}

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        process = FORK.Process(target=function, args=args)
        process.start()
        self._started.append(process)
        return process

    def ended(self, process: Any, seconds: float = PATIENCE) -> int:
        """Its exit code, the negative signal if it was killed.

        Raises:
            AssertionError: it hangs.
        """
        process.join(seconds)
        assert process.exitcode is not None, f"still running after {seconds} s"
        return process.exitcode

    def run(self, function: Callable[..., Any], *args: Any) -> int:
        return self.ended(self.start(function, *args))

    def heard(self, function: Callable[..., Any], *args: Any) -> tuple[int, str]:
        """Exit code, as the command line would give it, and what was said on stderr."""
        return self.told(self.overheard(function, *args))

    def overheard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a process whose stderr is kept for :meth:`told`."""
        file = tempfile.TemporaryFile("w+")  # noqa: SIM115  # read when the process has ended
        process = self.start(_guarded, file.fileno(), function, *args)
        self._said[process] = file
        return process

    def told(self, process: Any) -> tuple[int, str]:
        code = self.ended(process)
        self._said[process].seek(0)
        return code, self._said[process].read()

    def until(self, happened: Callable[[], bool], seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"nothing happened in {seconds} s"
            time.sleep(0.02)

    def close(self) -> None:
        for process in self._started:
            if process.is_alive():
                process.kill()
            process.join()
        for file in self._said.values():
            file.close()


def _guarded(stderr: int, function: Callable[..., Any], *args: Any) -> None:
    os.dup2(stderr, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.exit(guarded(lambda: explain_lost_process(lambda: function(*args))))


@pytest.fixture
def processes() -> Iterator[Processes]:
    own = Processes()
    yield own
    own.close()
