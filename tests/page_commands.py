"""A page's files and commands, taken from its fenced blocks, run in a folder, and compared with what it shows.

A block ```` ```python title="NAME" ```` (or yaml, json) is a file; a line ``$ …`` of a ```` ```console ```` block is a
command, and the lines below it are lines of its output, in their order. ``…`` stands for anything, alone for any lines;
a number with a decimal point for any such number; white space and rules of tables are not compared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^( *)```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"[-+−]?\d+\.\d+(?:e-?\d+)?")
RULES = re.compile(r"[━─┄]+")
PYTHON = '#!/bin/sh\nexec {python} "$@"\n'
SHIM = "#!{python}\nimport sys\nsys.path[0] = {root!r}\nfrom rairl_lightning.cli import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    name: str
    text: str


@dataclass
class Command:
    """A command, and the lines of its output that the page shows."""

    line: str
    shown: list[str] = field(default_factory=list)


def steps(page: str) -> Iterator[File | Command]:
    """Files and commands in the order of the page."""
    for indent, language, title, body in FENCE.findall(page):
        text = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        if title:
            yield File(title, text)
        elif language == "console":
            yield from _commands(text)


def _commands(text: str) -> Iterator[Command]:
    command: Command | None = None
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command
            command = Command(line[2:])
        elif command is None:
            raise ValueError(f"a console block starts with output: {line}")
        elif command.line.endswith("\\"):
            command.line += "\n" + line
        else:
            command.shown.append(line)
    if command:
        yield command


def pattern(shown: str) -> str:
    """A line as a regular expression for a line of :func:`plain` text."""
    return ".*".join(re.escape(plain(part)) for part in shown.split("…"))


def plain(line: str) -> str:
    """A line without what may differ: white space, the width of rules, decimals."""
    return " ".join(RULES.sub("━", DECIMAL.sub("0.0", line)).replace("┃", "│").split())


def unmatched(shown: Sequence[str], output: str) -> str | None:
    """The first line of the page that the output lacks, in this order; None if all are there."""
    lines = iter([plain(line) for line in output.splitlines()])
    for line in shown:
        if line.strip() in ("", "…"):
            continue
        wanted = re.compile(pattern(line))
        if not any(wanted.fullmatch(one) for one in lines):
            return line
    return None


def run(page: str, folder: Path, root: Path) -> list[tuple[str, str]]:
    """Do in ``folder`` what the page says; each command with its output.

    Raises:
        AssertionError: a command failed, or its output is not the page's.
    """
    shims = folder / ".bin"
    shims.mkdir()
    for name, text in (("rairl", SHIM), ("python", PYTHON)):
        (shims / name).write_text(text.format(python=sys.executable, root=str(root)))
        (shims / name).chmod(0o755)
    (folder / "configs").symlink_to(root / "configs")
    environment = {
        **os.environ,
        "PATH": f"{shims}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "COLUMNS": "100",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    done = []
    for step in steps(page):
        if isinstance(step, File):
            (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / step.name).write_text(step.text)
            continue
        result = subprocess.run(
            ["bash", "-c", step.line],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1200,  # of one command, on a machine that others use too
        )
        assert result.returncode == 0, f"$ {step.line}\n{result.stdout}"
        missing = unmatched(step.shown, result.stdout)
        assert missing is None, f"$ {step.line}\n{result.stdout}\nThe page also shows: {missing}"
        done.append((step.line, result.stdout))
    return done
