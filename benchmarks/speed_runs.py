"""Starts one process for one work, and reads what it measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from speed_work import Result, Work

from rairl_lightning.errors import TrainingError

HERE = Path(__file__).resolve().parent
SIDES = {"ours": HERE / "speed_ours.py", "trl": HERE / "speed_trl.py"}


def run_here(_: str, work: Work) -> Result:
    """Do our work in this process, to see that all of it runs; its memory is of no meaning."""
    import speed_ours  # loads what a process that only starts others need not hold

    return speed_ours.measure(work)


def run(side: str, work: Work, limit: float = 1800.0) -> Result:
    """Do the work in a process of its own, with its threads and nothing of the network.

    Args:
        side: ``ours`` or ``trl``.
        work: what to do.
        limit: seconds after which it is stopped.

    Raises:
        TrainingError: it failed, or took too long; with the last lines it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, said, printed = (Path(folder) / name for name in ("work.json", "result.json", "printed.txt"))
        work.write(asked)
        threads = str(work.threads)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [sys.executable, str(SIDES[side]), str(asked), str(said)]
        with printed.open("w") as file:
            try:
                code = subprocess.run(
                    command, cwd=folder, env=environment, stdout=file, stderr=file, timeout=limit, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
        if code or not said.is_file():
            raise TrainingError(
                f"{side} did not finish {work.algorithm}.",
                expected=f"a result within {limit:.0f} s",
                got=f"exit code {code}\n" + "\n".join(printed.read_text(errors="replace").splitlines()[-15:]),
                remedy="`make bench` installs TRL; see the lines above",
            )
        return Result.read(said)
