"""Whatever the data says, a run writes to its own folder alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import faulty_runs
import gates
import pytest
import torch

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import AdapterCheckpoint, Health, LeakProbes, Localisation, Reranking, TraceLogger
from rairl_lightning.data.demonstrations import DemonstrationSource, Splits
from rairl_lightning.types import Demonstration

NAMES = ("../../escaped", "/escaped", "..\\escaped", "a/b", "~/escaped", "con", "", "x" * 300)


def hostile(one: Demonstration, number: int) -> Demonstration:
    name = NAMES[number % len(NAMES)]
    return dataclasses.replace(one, id=f"{name}{one.id}", meta={"category": name, "subset": name})


@dataclasses.dataclass(frozen=True)
class Hostile(DemonstrationSource):
    """Gates whose ids and categories are paths."""

    def splits(self) -> Splits:
        plain = gates.Gates().splits()
        parts = (plain.train, plain.selection, plain.test)
        return Splits(*(tuple(hostile(one, number) for number, one in enumerate(part)) for part in parts))


def run(base: Path, folder: Path, paths: Path, escapes: bool) -> None:
    changed: set[str] = set()
    faulty_runs.on_each_change(changed.add)
    callbacks = [TraceLogger(1), Reranking(1, 4, 2), Localisation(1, 4), LeakProbes(1), Health(), AdapterCheckpoint(1)]
    module = gates.module(gates.shared(base), warmup=Warmup(2), rounds=1)
    gates.trainer(folder, callbacks).fit(module, datamodule=gates.data(source=Hostile()))
    if escapes:
        (folder / NAMES[0]).touch()
    torch.save(sorted(changed), paths)


def outside(folder: Path, paths: list[str]) -> list[str]:
    return [
        path for path in paths if not path.startswith(f"{folder}{os.sep}") and path not in (str(folder), os.devnull)
    ]


@pytest.mark.filterwarnings("ignore:LeakProbes", "ignore:Health")
def test_a_run_writes_to_its_folder_alone(base: Path, tmp_path: Path, processes: Any) -> None:
    folder = tmp_path / "a" / "b" / "run"
    folder.mkdir(parents=True)
    for escapes in (False, True):  # the second is the negative control
        assert processes.run(run, base, folder, tmp_path / "paths.pt", escapes) == 0
        changed = torch.load(tmp_path / "paths.pt", weights_only=True)
        assert any(path.endswith("last.ckpt") for path in changed) and any("traces.jsonl" in path for path in changed)
        found = [path for path in outside(folder, changed) if path != str(tmp_path / "paths.pt")]
        assert found == ([str(tmp_path / "a" / "escaped")] if escapes else [])
