"""Our algorithms alone: seconds a round, tokens a second, by phase, memory, and the share of this machine's limits.

python benchmarks/throughput.py [--device cuda] [--quantisation nf4] [--repetitions 3]   # the table
python benchmarks/throughput.py --sweep                    # cost over traces a round and over tokens, with a plot
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limits import at
from markdown_table import markdown
from speed_figures import LEARNING, linear_fit, of_training_floor
from speed_floors import Shape
from speed_machine import machine, middle, slug, write_json
from speed_options import BASELINES, parser, settle, work
from speed_runs import run, run_here
from speed_work import Result, Work

from rairl_lightning.evaluation.plots import BLUE, ORANGE, Row, write_plot
from rairl_lightning.evaluation.provenance import commit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = Callable[[str, Work], Result]
TRACES = (4, 8, 16, 32, 64, 128, 256)
TOKENS = (16, 32, 64, 128)
QUICK_TRACES, QUICK_TOKENS = (4, 8, 16), (4, 8)
COLUMNS = {  # figure: (title, digits)
    "seconds": ("s a round", 1),
    "sampled_per_second": ("sampled tokens/s", 0),
    "of_decoding_floor": ("of the floor", 2),
    "trained_per_second": ("trained tokens/s", 0),
    "of_training_floor": ("of the floor", 2),
    "resident_mb": ("resident MB", 0),
    "device_mb": ("device MB", 0),
}


def parts(given: argparse.Namespace) -> dict[str, Work]:
    """What is timed, by name."""
    named = {
        f"{algorithm} {ends}": work(given, algorithm, forced=forced)
        for algorithm in ("grpo", "rairl")
        for ends, forced in (("forced", True), ("natural", False))
    }
    return named | {"sft": work(given, "sft")}


def figures(one: Result, algorithm: str, shape: Shape, limits: dict[str, Any] | None) -> dict[str, Any]:
    """One run in numbers.

    Tokens a second are of the phase that samples and of the phase in which the policy learns, each beside the share of
    its floor; here the prompts' reading counts as sampling. None for what was not done, or has no floor.
    """
    phase = LEARNING[algorithm]
    sampled = one.rate("sample", one.generated) if "sample" in one.phases else None
    floor = limits and limits["decoding_tokens_per_second"]
    return {
        "seconds": middle(one.seconds),
        "sampled_per_second": sampled,
        "of_decoding_floor": sampled / floor if sampled and floor else None,
        "trained_per_second": one.rate(phase, one.trained),
        "of_training_floor": of_training_floor(one, phase, shape, limits) if limits else None,
        "phases": {name: middle(values) for name, values in one.phases.items()},
        "resident_mb": one.resident_mb,
        "device_mb": one.device_mb,
    }


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The medians over repetitions."""

    def cell(found: Sequence[dict[str, Any]], name: str) -> str:
        values = [one[name] for one in found]
        return "" if values[0] is None else f"{middle(values):.{COLUMNS[name][1]}f}"

    lines = []
    for title, found in rows.items():
        phases = {phase: middle([one["phases"][phase] for one in found]) for phase in found[0]["phases"]}
        spent = ", ".join(f"{phase} {value:.1f}" for phase, value in phases.items())
        lines.append([title, *(cell(found, name) for name in COLUMNS), spent])
    return markdown(["", *(head for head, _ in COLUMNS.values()), "s by phase"], lines)


def sweep(given: argparse.Namespace, algorithm: str, run: Run) -> list[Row]:
    """Seconds of a round over traces, in groups of the size given, and over new tokens."""
    traces, tokens = (QUICK_TRACES, QUICK_TOKENS) if given.quick else (TRACES, TOKENS)
    few = tokens[0]  # 256 traces are to fit a CPU's patience
    asked = [
        ("traces", n, work(given, algorithm, new_tokens=few, prompts=max(1, n // given.group_size))) for n in traces
    ]
    asked += [("new tokens", n, work(given, algorithm, new_tokens=n)) for n in tokens]
    rows = []
    for axis, value, one in asked:
        found = run("ours", one)
        tokens_learnt = middle(found.trained)
        rows.append({"axis": axis, "value": value, "seconds": middle(found.seconds), "trained_tokens": tokens_learnt})
        print(f"  {value:>4} {axis}: {rows[-1]['seconds']:.2f} s, {tokens_learnt:.0f} tokens", flush=True)
    return rows


def fits(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """A line through each sweep, and how far the worst point lies from it."""
    axes = dict.fromkeys(row["axis"] for row in rows)
    points = {axis: [(row["value"], row["seconds"]) for row in rows if row["axis"] == axis] for axis in axes}
    return {axis: linear_fit(*zip(*found, strict=True)) for axis, found in points.items()}


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Both sweeps with their lines; a straight line through the origin has slope 1 on these axes."""
    for (axis, line), colour in zip(fits(rows).items(), (BLUE, ORANGE), strict=False):
        own = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in own]
        axes.loglog(values, [row["seconds"] for row in own], "o", color=colour, label=axis)
        axes.loglog(values, [line["intercept"] + line["slope"] * value for value in values], "-", color=colour)
    axes.set_xlabel("traces a round, or new tokens a trace")
    axes.set_ylabel("seconds a round")
    axes.legend()


def floors(given: argparse.Namespace, shape: Shape) -> dict[str, Any] | None:
    """This machine's limits at the number of threads used; None for weights in 4 bits, which no bare product reads."""
    if given.quantisation:
        return None
    return at(given.threads, shape, given.device, given.prompts * given.group_size, quick=given.quick)


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--repetitions", type=int, default=1, help="of every algorithm, in turns")
    options.add_argument(
        "--sweep", action="store_true", help="seconds over traces and tokens, in the place of the table"
    )
    options.add_argument("--algorithm", default="grpo", choices=["grpo", "rairl"], help="whose rounds are swept")
    given = settle(options.parse_args())
    start: Run = run_here if given.quick else run
    report: dict[str, Any] = {"commit": commit(), "machine": machine(given.device, given.threads)}
    kind = "sweep" if given.sweep else "throughput"
    out: Path = given.out or BASELINES / f"{kind}-{slug(report['machine'])}.json"
    if given.sweep:
        rows = sweep(given, given.algorithm, start)
        report |= {"algorithm": given.algorithm, "fits": fits(rows), "rows": rows}
        print(report["fits"])
        out.parent.mkdir(parents=True, exist_ok=True)
        write_plot(out.parent, out.stem, rows, draw)
    else:
        shape, works = Shape.of(given.model), parts(given)
        limits = floors(given, shape)
        runs: dict[str, list[Result]] = {name: [] for name in works}
        for _ in range(given.repetitions):
            for name, asked in works.items():
                runs[name].append(start("ours", asked))
        rows_by_name = {
            name: [figures(one, works[name].algorithm, shape, limits) for one in found] for name, found in runs.items()
        }
        print(table(rows_by_name))
        report |= {
            "limits": limits,
            "figures": rows_by_name,
            "runs": {name: [asdict(one) for one in found] for name, found in runs.items()},
        }
    write_json(out, report)


if __name__ == "__main__":
    main()
