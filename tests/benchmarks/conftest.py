"""A copy of the ablation's plumbing beside experiments that are toys."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts import their neighbours, as `python benchmarks/ablation.py` does

EXPERIMENTS = """
import json, os, signal, subprocess, time
from dataclasses import dataclass

from rairl_lightning.errors import TrainingError

AUROC = {"sparse": 0.6, "interval": 0.8, "step": 0.9, "dense": 0.7}
PLAN = json.loads(os.environ["TOY_PLAN"])  # by key: crash, kill, exit, hang; "together": wait for so many


@dataclass(frozen=True)
class Run:
    stage: str
    algorithm: str
    granularity: str
    head: str
    loss: str
    seed: int

    @property
    def key(self):
        names = (self.stage, self.algorithm, self.granularity, self.head, self.loss, str(self.seed))
        return PLAN.get("key") or "/".join(name or "none" for name in names)


@dataclass(frozen=True)
class Measurement:
    metric: str
    mean: float
    low: float
    high: float


def starts(smoke):
    return [Run("start", "SFT", "", "", "", 0)]


def discriminators(smoke):
    return [Run("discriminator", "D", name, "linear", "bce", 0) for name in (["step"] if smoke else AUROC)]


def policies(smoke, lines):
    aurocs = {l["granularity"]: l["measurements"][0]["mean"] for l in lines if l["stage"] == "discriminator"}
    chosen = sorted(aurocs, key=aurocs.get)[-2:]
    return [Run("policy", "R-AIRL", name, "linear", "bce", seed) for name in chosen for seed in (0, 1)]


def execute(run, folder, smoke):
    began = time.monotonic()
    (folder / "seen.json").write_text(json.dumps({"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}))
    while len(list(folder.parents[5].glob("discriminator/**/seen.json"))) < PLAN.get("together", 0):
        time.sleep(0.02)
    match PLAN.get(run.key):
        case "crash":
            raise TrainingError("The toy broke.", expected="luck", remedy="try again")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            signal.signal(signal.SIGTERM, lambda *_: ((folder / "asked").touch(), os._exit(1)))
            below = subprocess.Popen(["sleep", "600"])
            (folder / "below").write_text(str(below.pid))
            below.wait()
        case "exit":
            os._exit(0)
    (folder / "span.json").write_text(json.dumps([began, time.monotonic()]))
    value = AUROC.get(run.granularity, 0.5) + run.seed / 100
    return [Measurement("auroc", value, value - 0.1, value + 0.1), Measurement("odd", float("nan"), 0.0, float("inf"))]
"""


@dataclass
class Toy:
    """Runs ``ablation.py`` with toy experiments.

    Args:
        script: the copied script.
        out: where it writes.
        plan: what the toys shall do, see ``EXPERIMENTS``.
    """

    script: Path
    out: Path
    plan: dict[str, Any] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TOY_PLAN": json.dumps(self.plan), "PYTHONPATH": str(BENCHMARKS.parent)}
        return subprocess.Popen(
            [sys.executable, str(self.script), "--out", str(self.out), *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        try:
            printed, complained = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, printed, complained

    @property
    def ledger(self) -> Path:
        return self.out / "runs.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.ledger.read_text().splitlines()]


def make_toy(tmp_path: Path) -> Toy:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for path in [*BENCHMARKS.glob("ablation*.py"), BENCHMARKS / "markdown_table.py"]:
        shutil.copy(path, folder)
    (folder / "ablation_runs.py").write_text(EXPERIMENTS)
    return Toy(folder / "ablation.py", tmp_path / "out")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return make_toy(tmp_path)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The discriminators, run without a stop."""
    toy = make_toy(tmp_path_factory.mktemp("unbroken"))
    assert toy.run("--stages", "discriminator", "--workers", "4")[0] == 0
    return toy
