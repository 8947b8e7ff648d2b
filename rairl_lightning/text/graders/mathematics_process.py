"""One process for math-verify, started when it is needed, killed when it hangs, gone when Python is.

A thread cannot be stopped and a signal does not interrupt all of sympy, so that only a process gives a time limit that
holds. It speaks JSON lines over pipes: nothing is pickled, and no ``__main__`` is imported again, so that it works
from scripts, notebooks and the workers of a data loader alike.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer

from rairl_lightning.errors import ConfigError

START_SECONDS = 120.0
"""Within which the process must have imported math-verify."""

_WORKER = Path(__file__).with_name("mathematics_worker.py")
_GRACE = 10


class MathematicsProcess:
    """Compares expressions in a process of its own; one such object serves the whole of a Python process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def equal(self, gold: str, answer: str, seconds: float) -> bool | None:
        """Whether math-verify takes two expressions for equal.

        Args:
            gold: the right answer.
            answer: what is compared with it.
            seconds: time limit, > 0.

        Returns:
            None if the time was up, the process died of it twice, or the right answer cannot be read.

        Raises:
            ConfigError: math-verify cannot be loaded.
        """
        with self._lock:
            for _ in range(2):  # a process that was killed between two calls, by whoever, is no answer
                process = self._started()
                reply, timed_out = _asked(process, json.dumps([gold, answer, math.ceil(seconds) + _GRACE]), seconds)
                if reply:
                    return json.loads(reply)
                self._end()
                if timed_out:
                    return None
            return None

    def close(self) -> None:
        """End the process if there is one; the next question starts another."""
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """Number of the process; None while there is none."""
        return self._process.pid if self._process is not None else None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        # -P: the folder of the script, with its base.py and exact.py, hides no module.
        command = [sys.executable, "-P", str(_WORKER)]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True, encoding="utf-8")
        reply, _ = _asked(self._process, "", START_SECONDS)
        if reply.strip() != "ready":
            self._end()
            raise ConfigError(
                "math-verify could not be started.",
                expected=f"{sys.executable} imports math_verify within {START_SECONDS:.0f} s",
                remedy="pip install 'math-verify[antlr4-13-2]', or choose another grader",
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with (
            suppress(BrokenPipeError),
            process,
        ):  # a question may be unwritten; closes the pipes and waits, so that no zombie stays
            pass

    def _forget(self) -> None:
        """In a fork: the process belongs to the parent, whose pipes must not be read here."""
        process, self._process, self._lock = self._process, None, Lock()
        if process is not None:
            process.returncode = 0  # it is not ours to wait for, nor to warn about
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        os.close(stream.fileno())
            _INHERITED.append(process)


def _asked(process: subprocess.Popen[str], line: str, seconds: float) -> tuple[str, bool]:
    """Write a line, unless it is empty, and read one; ``("", True)`` if the process was killed for its time."""
    assert process.stdin is not None and process.stdout is not None
    late: list[bool] = []

    def stop() -> None:
        late.append(True)
        process.kill()

    timer = Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    reply = ""
    try:
        with suppress(BrokenPipeError):
            if line:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            reply = process.stdout.readline()
    finally:
        timer.cancel()
    return reply, bool(late)


_INHERITED: list[subprocess.Popen[str]] = []  # kept, so that no file of theirs is closed twice

MATHEMATICS = MathematicsProcess()
"""The one process."""

atexit.register(MATHEMATICS.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=MATHEMATICS._forget)
