"""Ours against TRL on the same work, one process each, in turns; prints the ratios and writes them.

    python benchmarks/compare_trl.py [--repetitions 3] [--minutes 19] [--lean] [--out FILE]

Both sides get the same prompts, group size, token counts, LoRA and learning rate. Times are those of whole rounds (or
steps) after one that is not counted; memory is the most of the whole process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limits import at
from markdown_table import markdown
from speed_figures import compared
from speed_floors import Shape
from speed_machine import machine, middle, slug, write_json
from speed_options import BASELINES, HERE, parser, settle, work
from speed_runs import run, run_here
from speed_work import Result, Work

from rairl_lightning.evaluation.provenance import commit

RESULT = HERE / "results" / "compare.json"
PEERS = {False: "trl", True: "ours"}  # with --quick ours against itself: near 1, or the measurement is not fair
WANTED = {
    "grpo_forced": "at least 3.0",
    "grpo_natural": "at least 3.0",
    "sft": "at least 1.8",
    "memory": "at most 0.5",
    "sampling_of_floor": "at least 0.70",
    "training_of_floor": "at least 0.70",
    "rairl_over_grpo": "at most 3.0",
    "sampling": "at least 4",
}


def parts(given: argparse.Namespace) -> dict[str, Work]:
    """What is compared, by name."""
    named = {
        "grpo_forced": work(given, "grpo", forced=True),
        "grpo_natural": work(given, "grpo", forced=False),
        "sft": work(given, "sft"),
        "sampling": work(given, "sampling", forced=True),
        "rairl": work(given, "rairl", forced=True),
    }
    return named | ({"grpo_lean": work(given, "grpo", forced=True, checkpointing=True)} if given.lean else {})


def repeat(
    works: dict[str, Work], peer: str, repetitions: int, minutes: float, run: Callable[[str, Work], Result] = run
) -> dict[str, dict[str, list[Result]]]:
    """Run every part on both sides, in turns; R-AIRL, which the peer has not, on ours alone.

    No repetition is begun that would not end within ``minutes``, judging by the longest so far; one always is.
    """
    runs: dict[str, dict[str, list[Result]]] = {name: {"ours": [], "peer": []} for name in works}
    began, longest = time.monotonic(), 0.0
    for number in range(repetitions):
        start = time.monotonic()
        if number and start - began + longest > 60 * minutes:
            print(f"{number} of {repetitions} repetitions fit into {minutes:g} minutes")
            break
        for name, asked in works.items():
            for side, program in (("ours", "ours"), ("peer", peer)):
                if side == "peer" and asked.algorithm == "rairl":
                    continue
                runs[name][side].append(run(program, asked))
                print(f"  {number + 1}. {name:<13} {program:<5} {line(runs[name][side][-1])}", flush=True)
        longest = max(longest, time.monotonic() - start)
    return runs


def line(one: Result) -> str:
    """What a run measured, in short."""
    lengths = [n for round_ in one.lengths for n in round_]
    drawn = (
        f", completions of {min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.0f}" if lengths else ""
    )
    spent = ", ".join(f"{name} {middle(values):.1f}" for name, values in one.phases.items())
    return f"{middle(one.seconds):6.1f} s ({spent}), {one.resident_mb:.0f} MB{drawn}"


def table(found: dict[str, Any]) -> str:
    """The ratios beside what they should be."""
    rows = [
        [name, f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})", WANTED.get(name, "")]
        for name, values in found.items()
        if values
    ]
    return markdown(["ours over the peer's", "median (range)", "wanted"], rows)


def summary(found: dict[str, Any], peer: str, versions: dict[str, str], threads: int, device: str) -> dict[str, Any]:
    """What is written: the ratios, the commit and the machine."""
    code = commit()
    return {
        **found,
        "commit": code.removesuffix("-dirty"),
        "dirty": code.endswith("-dirty"),
        "peer": f"{peer} {versions.get(peer, '')}".strip(),
        "machine": machine(device, threads),
    }


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--repetitions", type=int, default=3, help="of everything, in turns")
    options.add_argument("--minutes", type=float, default=19.0, help="no repetition is begun that would end later")
    options.add_argument("--lean", action="store_true", help="also with activation checkpointing on both sides")
    given = settle(options.parse_args())
    peer, shape = PEERS[given.quick], Shape.of(given.model)
    limits = at(given.threads, shape, given.device, given.prompts * given.group_size, quick=given.quick)
    works = parts(given)
    runs = repeat(works, peer, given.repetitions, given.minutes, run_here if given.quick else run)
    ratios = compared(runs, shape, limits)
    print(table(ratios))
    report = summary(ratios, peer, runs["grpo_forced"]["peer"][0].versions, given.threads, given.device)
    if report["dirty"]:
        print(f"The tree differs from commit {report['commit']}: commit, and measure again, before you quote this.")
    details = report | {
        "limits": limits,
        "settings": {
            name: {k: v for k, v in asdict(one).items() if k not in ("questions", "model")}
            for name, one in works.items()
        },
        "runs": {
            name: {side: [asdict(one) for one in results] for side, results in sides.items()}
            for name, sides in runs.items()
        },
    }
    write(given, report, details)


def write(given: argparse.Namespace, report: dict[str, Any], details: dict[str, Any]) -> None:
    """The summary where ``--out`` says, and every run per device; ``--quick`` writes only where it is told."""
    if given.quick and given.out is None:
        return
    out: Path = given.out or RESULT
    write_json(out, report)
    name = f"compare-{slug(report['machine'])}.json"
    write_json((out.parent if given.out else BASELINES) / name, details)
    print(f"Written: {out} and {name}")


if __name__ == "__main__":
    main()
