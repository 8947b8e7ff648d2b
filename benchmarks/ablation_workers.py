"""Runs side by side, each in a process of its own, so that a crash stays where it happened and memory comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ablation_ledger import Line

from rairl_lightning.evaluation.provenance import commit

if TYPE_CHECKING:
    from ablation_runs import Run

MEASUREMENTS = "measurements.json"  # how a child hands over what it measured
LOG = "log.txt"
POLL = 0.1  # seconds
GRACE = 5.0  # seconds between asking a child to end and ending it
# One thread each, which sleeps while it waits: two runs share two cores.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass
class Child:
    """A run under way.

    Args:
        run: what it does.
        folder: where it writes; its log and its measurements lie here.
        process: of its own session, so that Ctrl-C reaches it through us only.
        started: ``time.monotonic()``.
        code: the commit it runs from, ``-dirty`` behind it if the checkout differs.
    """

    run: Run
    folder: Path
    process: subprocess.Popen[bytes]
    started: float
    code: str

    def line(self) -> Line:
        """What the ledger says of it, once it has ended."""
        line = {
            "key": self.run.key,
            **asdict(self.run),
            "seconds": round(time.monotonic() - self.started, 1),
            "commit": self.code.removesuffix("-dirty"),
            "dirty": self.code.endswith("-dirty"),
        }
        measurements = self.folder / MEASUREMENTS
        status = self.process.returncode
        if status == 0 and measurements.exists():
            return {**line, "measurements": json.loads(measurements.read_bytes())}
        return {**line, "error": first_line(status, (self.folder / LOG).read_text("utf-8", errors="replace"))}


def first_line(status: int, log: str) -> str:
    r"""The first line of the error that ended a child.

    Args:
        status: as ``Popen.returncode`` has it.
        log: everything the child printed.

    >>> first_line(1, "Traceback (most recent call last):\n  File ...\nValueError: no\n  expected: yes\n")
    'ValueError: no'
    >>> first_line(-9, "round 7")
    'killed by SIGKILL'
    """
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    _, found, after = log.rpartition("Traceback (most recent call last):\n")
    messages = [text for text in after.splitlines() if text and not text[0].isspace()]
    if found and messages:
        return messages[0]
    return "ended without measurements" if status == 0 else f"exit status {status}"


class Workers:
    """So many processes at once; Ctrl-C and SIGTERM end them, and so does the end of this process, however it comes.

    Args:
        count: processes at once, >= 1.
        command: makes the command line of a run; it is given the key, and the number of a pipe that is at its end
            when this process is.
        folder: where the runs write, each below its key.
    """

    def __init__(self, count: int, command: Callable[[str, int], list[str]], folder: Path) -> None:
        self.count, self.command, self.folder = count, command, folder
        self.stopped_by: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Workers:
        """Listen for signals. They are noted only: an exception could fall into the writing of a line."""
        self._lifeline, self._held = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop listening."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._lifeline)
        os.close(self._held)

    def work(self, runs: Sequence[Run], record: Callable[[Line], None]) -> None:
        """Run all, and record each as it ends; returns early, with no child left, when a signal came."""
        waiting, running = deque(runs), list[Child]()
        try:
            while (waiting or running) and self.stopped_by is None:
                while waiting and len(running) < self.count:
                    running.append(self._start(waiting.popleft()))
                time.sleep(POLL)
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    record(child.line())
        finally:
            _end([child.process for child in running])

    def _start(self, run: Run) -> Child:
        folder = self.folder / run.key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MEASUREMENTS).unlink(missing_ok=True)  # of an attempt that was not recorded
        code = commit()
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                self.command(run.key, self._lifeline),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **THREADS},
                pass_fds=(self._lifeline,),
                start_new_session=True,
            )
        return Child(run, folder, process, time.monotonic(), code)

    def _stop(self, number: int, frame: object) -> None:
        self.stopped_by = number


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask, wait, and insist; the whole session of each, for a run may have processes of its own."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
