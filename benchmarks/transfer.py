"""What a reward learned on one data set is worth on others: `rairl rerank` and `localise`, rewards × data sets.

    python benchmarks/transfer.py plan.yaml --out runs/transfer

A plan names rewards, and for either command the data sets with the command's own options:

    rewards: {gsm8k: runs/gsm8k, medreason: runs/medreason}
    common: {device: cpu}                     # options of every cell
    rerank:
      mmlu_pro:
        traces: {class_path: TraceFile, init_args: {path: mmlu_pro/policy_samples.jsonl.gz}}
    localise:
      processbench:
        steps: {class_path: ProcessSteps, init_args: {path: process/processbench_gsm8k.jsonl}}

Every cell is a run of the command in ``OUT/<command>/<reward>/<data set>``; cells that are done are not run again. A
reward that does not fit a data set or a policy is refused by the command, and the table says why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markdown_table import markdown

from rairl_lightning.errors import ConfigError, RAIRLError
from rairl_lightning.evaluation.summary import per_cent, write_summary

Figure = list[float | None]
COMMANDS = ("rerank", "localise")
LOG, SUMMARY, TABLE = "log.txt", "summary.json", "transfer.json"


@dataclass(frozen=True)
class Cell:
    """One reward on one data set.

    Args:
        command: rerank or localise.
        reward: its name in the plan.
        data: likewise.
        options: of the command, the reward's path among them.
    """

    command: str
    reward: str
    data: str
    options: Mapping[str, Any]

    def folder(self, out: Path) -> Path:
        """Where it is run."""
        return out / self.command / self.reward / self.data


def cells(plan: Mapping[str, Any]) -> list[Cell]:
    """All of a plan, data set by data set.

    Raises:
        ConfigError: it lacks rewards or data sets, has another key, or a name that is no name of a folder.
    """
    strangers = sorted(plan.keys() - {"rewards", "common", *COMMANDS})
    names = [*plan.get("rewards", {}), *(name for command in COMMANDS for name in plan.get(command, {}))]
    unusable = [name for name in names if not str(name).replace("-", "_").isidentifier()]
    if strangers or unusable or not plan.get("rewards") or not any(plan.get(command) for command in COMMANDS):
        raise ConfigError(
            "The plan cannot be read.",
            expected="rewards, and rerank or localise or both, and perhaps common; names of letters, digits, - and _",
            got=", ".join(map(str, strangers + unusable)) or ", ".join(plan),
            remedy="python benchmarks/transfer.py --help shows one",
        )
    return [
        Cell(command, reward, data, {**plan.get("common", {}), **options, "reward": path})
        for command in COMMANDS
        for data, options in plan.get(command, {}).items()
        for reward, path in plan["rewards"].items()
    ]


def run(cell: Cell, out: Path) -> None:
    """Do one cell, and leave the command's output in its log."""
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**cell.options, "out": str(folder), "overwrite": True}), encoding="utf-8")
    command = [sys.executable, "-m", "rairl_lightning", cell.command, "--config", str(config)]
    with (folder / LOG).open("w", encoding="utf-8") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)


def summary_of(cell: Cell, out: Path) -> dict[str, Any]:
    """What a cell found; ``refused`` with the first line of the error where it found nothing."""
    file = cell.folder(out) / SUMMARY
    if file.is_file():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    log = cell.folder(out) / LOG
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else ["not run"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return {"refused": (errors or lines or ["no output"])[-1]}


def figures_of(summary: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The figures of the table, each ``[value, low, high]``."""
    for n, sections in list(summary.get("best_of", {}).items())[-1:]:
        right, gain = sections["all"]["right"], sections["all"]["over_random"]
        yield f"Best of {n}, reward", right["reward"]
        yield f"Best of {n}, over random", gain["reward"]
        yield f"Best of {n}, majority", right["majority"]
        yield f"Best of {n}, log-probability", right["logprob"]
    if "auroc" in summary:
        yield "AUROC within a question", summary["auroc"]["within_question"]
    if perturbed := summary.get("perturbed"):
        for method, title in (("reward", "reward"), ("logprob_drop", "log-probability"), ("chance", "chance")):
            yield f"Hit@1 of the step, {title}", perturbed["hit@1"][method]["step"]
    if natural := summary.get("natural"):
        for method, title in (("reward", "reward"), ("logprob", "log-probability")):
            yield f"F1, {title}", natural["all"]["f1"][method]


def table(found: Sequence[tuple[Cell, Mapping[str, Any]]]) -> str:
    """Markdown: a table a command, a row a reward and data set; per cent with 95 % intervals."""
    parts = []
    for command in COMMANDS:
        own = [(cell, summary, dict(figures_of(summary))) for cell, summary in found if cell.command == command]
        titles = list(dict.fromkeys(title for _, _, figures in own for title in figures))
        if own:
            rows = [[cell.data, cell.reward, *_cells(figures, titles, summary)] for cell, summary, figures in own]
            parts.append(f"**rairl {command}**\n\n{markdown(['data set', 'reward', *(titles or [''])], rows)}")
    return "\n\n".join(parts)


def _cells(figures: Mapping[str, Figure], titles: Sequence[str], summary: Mapping[str, Any]) -> list[str]:
    cells = [per_cent(figures[title]) if title in figures else "–" for title in titles] or [""]
    if "refused" in summary:
        cells[0] = f"refused: {summary['refused']}".replace("|", "\\|")
    return cells


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="YAML, as above")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="folder of the cells (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        wanted = cells(yaml.safe_load(args.plan.read_text(encoding="utf-8")) or {})
    except RAIRLError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    found = []
    for number, cell in enumerate(wanted, start=1):
        print(f"{number}/{len(wanted)}  {cell.command} {cell.reward} on {cell.data}", flush=True)
        if not (cell.folder(args.out) / SUMMARY).is_file():
            run(cell, args.out)
        found.append((cell, summary_of(cell, args.out)))
    rows = [
        {"command": cell.command, "reward": cell.reward, "data": cell.data, "commit": summary.get("commit")}
        | ({"refused": summary["refused"]} if "refused" in summary else {"figures": dict(figures_of(summary))})
        for cell, summary in found
    ]
    write_summary(args.out / TABLE, {"cells": rows})
    print(f"\n{table(found)}\n\nSaved {args.out / TABLE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
