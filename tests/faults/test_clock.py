"""Clocks that jump, and runs that meet in one folder."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import cli_toy
import gates
import pytest
from faulty_runs import FORK, Killed, Marks, final, fit

from rairl_lightning.callbacks.own_folder import LOCK, RunLock
from rairl_lightning.cli import guarded
from rairl_lightning.cli_parser import launch
from rairl_lightning.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:No whole checkpoint")
YEARS = 3.2e7 * 30


def jumping(base: Path, folder: Path, marks: Marks, callbacks: Any = ()) -> None:
    """A run whose clock is somewhere else, decades away, whenever it is read."""
    honest, rng = time.time, random.Random(0)
    time.time = lambda: honest() + rng.uniform(-YEARS, YEARS)
    time.time_ns = lambda: int(1e9 * time.time())
    fit(base, folder, marks, callbacks)


@pytest.mark.slow
def test_clock_jumps(base: Path, tmp_path: Path, processes: Any, fault: Any) -> None:
    """Also while the run is killed and goes on."""
    assert processes.run(fit, base, tmp_path / "honest", Marks()) == 0
    with fault("clock jumps") as tally:
        first, second = Marks(), Marks()
        assert processes.run(jumping, base, tmp_path / "jumping", first, [Killed((11, 0.0), 0.0)]) == -9
        assert processes.run(jumping, base, tmp_path / "jumping", second) == 0
        tally.lost_rounds += first.saved.value - second.began.value
        honest, jumped = (final(tmp_path / name)["state"] for name in ("honest", "jumping"))
        assert gates.largest_difference(honest, jumped) == 0


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(sys, "argv", ["rairl"])
    flags = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"]
    flags += [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=2", "--trainer.logger=CSVLogger"]
    flags += [f"--trainer.logger.save_dir={tmp_path}"]
    return lambda *args: guarded(lambda: launch(["fit", "--model=cli_toy.Toy", *flags, *args], cli_toy.ToyData))


def holds(folder: Path, held: Any, over: Any) -> None:
    with RunLock(folder):
        held.set()
        over.wait()


def test_two_runs_in_one_folder_at_a_time(
    tmp_path: Path, toy: Any, processes: Any, fault: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    held, over = FORK.Event(), FORK.Event()
    with fault("two runs in one folder"):
        other = processes.start(holds, tmp_path, held, over)
        assert held.wait(100)
        assert toy() == CheckpointError.exit_code
        told = capfd.readouterr().err
        assert "Another run is writing to" in told and f"process {other.pid}" in told
        assert [path.name for path in tmp_path.iterdir()] == [LOCK], "nothing was written"
        other.kill()
        assert processes.ended(other) == -9
        assert toy() == 0, "a run that was killed holds nothing"


def test_a_run_that_starts_anew_finds_nothing_of_an_earlier_one(tmp_path: Path, toy: Any, fault: Any) -> None:
    with fault("two runs in one folder"):
        assert toy('--model.signals=["SIGINT"]') == 130
        first = {path.name for path in tmp_path.iterdir()} - {LOCK}
        assert first == {"interrupted.ckpt", "config.yaml", "lightning_logs"}
        assert toy("--model.lr=0.2") == 0
        earlier = tmp_path / "earlier" / "001"
        assert {path.name for path in earlier.iterdir()} == first
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {LOCK, "earlier", "final.pt", "config.yaml", "lightning_logs"}
        for run, rate in ((earlier, "lr: 0.1"), (tmp_path, "lr: 0.2")):
            assert rate in (run / "config.yaml").read_text()
