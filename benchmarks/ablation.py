"""What R-AIRL owes to each of its parts: discriminators first, then policies, on the arithmetic task.

    python benchmarks/ablation.py --out runs/ablation     # run what is not done yet
    python benchmarks/ablation.py --out runs/ablation --table

The experiments are in ``ablation_runs.py``; this file runs them, two side by side, and may be stopped and started at
any time. Each finished run is a line of ``<out>/runs.jsonl``; what a run printed is in ``<out>/<key>/log.txt``. Runs
that failed are tried again at the next start. Smoke runs have ``<out>/smoke`` to themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ablation_ledger import Ledger, Line, without_nan, write_whole
from ablation_table import make_table
from ablation_workers import LOG, MEASUREMENTS, Workers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rairl_lightning.errors import ConfigError, RAIRLError

if TYPE_CHECKING:
    from ablation_runs import Run

STAGES = ("start", "discriminator", "policy")


def runs_of(stage: str, ledger: Ledger, smoke: bool) -> list[Run]:
    """The runs of a stage; those of the last one depend on what the ledger says of the one before.

    Raises:
        ConfigError: two runs share a key, or a key leads out of the folder.
    """
    import ablation_runs  # not above: it brings torch, which the table does without

    if stage == "policy":
        runs = ablation_runs.policies(smoke, list(ledger.finished().values()))
    else:
        runs = {"start": ablation_runs.starts, "discriminator": ablation_runs.discriminators}[stage](smoke)
    keys = [run.key for run in runs]
    unusable = {key for key in keys if keys.count(key) > 1 or Path(key).is_absolute() or ".." in Path(key).parts}
    if unusable:
        raise ConfigError("Runs need a folder of their own.", expected="unique relative keys", got=sorted(unusable))
    return runs


def execute_one(key: str, ledger: Ledger, smoke: bool) -> None:
    """Do one run in this process and leave its measurements in its folder.

    Raises:
        ConfigError: no stage has such a run.
    """
    import ablation_runs

    run = next((run for stage in STAGES for run in runs_of(stage, ledger, smoke) if run.key == key), None)
    if run is None:
        raise ConfigError("There is no such run.", got=key)
    folder = ledger.path.parent / key
    folder.mkdir(parents=True, exist_ok=True)
    measurements = [asdict(measurement) for measurement in ablation_runs.execute(run, folder, smoke)]
    write_whole(folder / MEASUREMENTS, json.dumps(without_nan(measurements), indent=1) + "\n")


def end_with(lifeline: int) -> None:
    """End this session when the process that started it is gone: nobody would record what it finds."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class Log:
    """A line for each run that ended, and in a terminal a bar below them.

    Args:
        stage: what the bar is called.
        done: runs of the stage that were done before.
        total: runs of the stage.
        workers: runs side by side, from which the time left is guessed.
    """

    def __init__(self, stage: str, done: int, total: int, workers: int) -> None:
        self.total, self.workers, self.done, self.failures = total, workers, done, 0
        self._seconds: list[float] = []
        self._started = time.monotonic()
        console = Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn(stage),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self.progress.add_task(stage, total=total, completed=done, left="")

    def add(self, line: Line, folder: Path) -> None:
        """Print how a run ended, and guess how long the others will take."""
        failed = "error" in line
        self.done, self.failures = self.done + (not failed), self.failures + failed
        self._seconds.append(line["seconds"])
        ended = self.done + self.failures
        if failed:
            what = f"FAILED  {line['error']}  ({folder / line['key'] / LOG})"
        else:
            what = "  ".join(f"{m['metric']} {_number(m['mean'])}" for m in line["measurements"][:3])
        elapsed = _clock(time.monotonic() - self._started)
        left = _clock(sum(self._seconds) / len(self._seconds) * (self.total - ended) / self.workers)
        clocks = f"elapsed {elapsed}, left {left}"
        head = f"{ended}/{self.total}  {line['key']}  {line['seconds']:.0f} s"
        self.progress.console.print(f"{head}  {what}  [{clocks}]", markup=False)
        self.progress.update(self._task, completed=ended, left=f"left {left}")


def run_stage(stage: str, ledger: Ledger, workers: Workers, smoke: bool) -> int:
    """Do what is not done of a stage; how many runs failed."""
    runs, finished = runs_of(stage, ledger, smoke), ledger.finished()
    pending = [run for run in runs if run.key not in finished]
    log = Log(stage, len(runs) - len(pending), len(runs), workers.count)
    log.progress.console.print(f"{stage}: {log.done} of {log.total} done before", markup=False)

    def record(line: Line) -> None:
        ledger.append(line)
        log.add(line, workers.folder)

    with log.progress:
        workers.work(pending, record)
    return log.failures


def run_stages(stages: Sequence[str], ledger: Ledger, workers: Workers, smoke: bool) -> int:
    """Do the stages in their order. A failed run does not keep the others from being tried.

    Returns:
        The exit status: 0, 1 where a run failed, 128 + the signal that stopped us.
    """
    failures = 0
    with ledger.locked(), workers:
        for stage in STAGES:
            if stage in stages and workers.stopped_by is None:
                failures += run_stage(stage, ledger, workers, smoke)
    if workers.stopped_by is not None:
        print(f"Stopped; what is done is in {ledger.path}.", file=sys.stderr)
        return 128 + workers.stopped_by
    return int(failures > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs (%(default)s)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="which, always in this order (all)")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny runs, to see that everything works")
    parser.add_argument("--table", action="store_true", help="write the results file and the tables of the README")
    parser.add_argument("--one", metavar="KEY", help="do this run here, without recording it")
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)  # from Workers to its children
    args = parser.parse_args(arguments)
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    ledger = Ledger(args.out / "smoke" if args.smoke else args.out)
    try:
        if args.table:
            make_table(ledger, Path(__file__).resolve().parent, write=not args.smoke)
            return 0
        if args.one is None:
            return run_stages(args.stages, ledger, _workers(args.workers, args.out, args.smoke, ledger), args.smoke)
    except RAIRLError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    # Outside of the try: the traceback of a run belongs into its log.
    if args.lifeline is not None:
        end_with(args.lifeline)
    execute_one(args.one, ledger, args.smoke)
    return 0


def _workers(count: int, out: Path, smoke: bool, ledger: Ledger) -> Workers:
    def command(key: str, lifeline: int) -> list[str]:
        script = [sys.executable, str(Path(__file__).resolve()), "--out", str(out), *(["--smoke"] if smoke else [])]
        return [*script, "--one", key, "--lifeline", str(lifeline)]

    return Workers(count, command, ledger.path.parent)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


if __name__ == "__main__":
    sys.exit(main())
