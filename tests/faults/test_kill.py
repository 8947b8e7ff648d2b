"""kill -9 at any moment, and the run goes on to the weights that it would have had."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import faulty_runs
import gates
import pytest
from faulty_runs import ALL, STEPS, Marks, fit, fit_and_die

from rairl_lightning.callbacks.checkpoint_files import flaw

KILLS = {"sft": 7, "warm-up": 6, "adversarial": 7}
NOISE = pytest.mark.filterwarnings("ignore:No whole checkpoint")


@pytest.fixture(scope="module")
def unbroken(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run that nothing happened to, and how long a step of it takes."""
    folder = tmp_path_factory.mktemp("unbroken")
    process = faulty_runs.FORK.Process(target=fit, args=(base, folder, Marks()))
    process.start()
    process.join()
    assert process.exitcode == 0
    final = faulty_runs.final(folder)
    assert len(final["at"]) == ALL
    steps = sorted(later - earlier for earlier, later in zip(final["at"], final["at"][1:], strict=False))
    return {"state": final["state"], "seconds": steps[len(steps) // 2], "rows": rows(folder)}


def rows(folder: Path) -> list[str]:
    """The lines about sampled traces; every one of them is JSON."""
    lines = (folder / "traces.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    return lines


def check(folder: Path, unbroken: dict[str, Any]) -> None:
    """Weights, moments, replay and reports are those of the run that nothing happened to."""
    assert gates.largest_difference(faulty_runs.final(folder)["state"], unbroken["state"]) == 0
    assert rows(folder) == unbroken["rows"]
    assert flaw(folder / "checkpoints" / "last.ckpt") is None and (folder / "adapters" / "policy").is_dir()


def survive(base: Path, folder: Path, unbroken: Any, processes: Any, tally: Any, moment: tuple[int, float]) -> None:
    first, second = Marks(), Marks()
    code = processes.run(fit_and_die, base, folder, first, moment, unbroken["seconds"])
    assert code == -signal.SIGKILL
    assert processes.run(fit, base, folder, second) == 0
    began = second.began.value if second.began.value >= 0 else ALL  # a run that was over is not begun again
    tally.lost_rounds += max(0, first.saved.value - began)
    check(folder, unbroken)
    assert first.saved.value <= began, "a round that was saved is done again"


def moments(phase: str, count: int) -> list[tuple[int, float]]:
    """Steps of a phase in turn, so that each is met, and random moments in them."""
    rng = random.Random(f"kill {phase}")
    steps = STEPS[phase]
    return [(steps[number % len(steps)], rng.uniform(0, 1.2)) for number in range(count)]


@NOISE
@pytest.mark.parametrize("phase", [pytest.param("sft", marks=pytest.mark.slow), "warm-up", "adversarial"])
def test_a_kill_at_a_random_moment(
    base: Path, tmp_path: Path, unbroken: Any, processes: Any, fault: Any, phase: str
) -> None:
    moment = random.Random(f"first {phase}").choice(STEPS[phase]), 0.9
    with fault(f"kill -9 in {phase}") as tally:
        survive(base, tmp_path, unbroken, processes, tally, moment)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@NOISE
@pytest.mark.parametrize("phase", KILLS)
def test_kills_at_random_moments_of_every_phase(
    base: Path, tmp_path: Path, unbroken: Any, processes: Any, fault: Any, phase: str
) -> None:
    for number, moment in enumerate(moments(phase, KILLS[phase])):
        with fault(f"kill -9 in {phase}") as tally:
            survive(base, tmp_path / str(number), unbroken, processes, tally, moment)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@NOISE
def test_a_run_that_is_killed_again_and_again(
    base: Path, tmp_path: Path, unbroken: Any, processes: Any, fault: Any
) -> None:
    """One run, killed in every step from the warm-up on: each life does one step."""
    for step in (*STEPS["warm-up"], *STEPS["adversarial"]):
        with fault("kill -9, again and again"):
            code = processes.run(fit_and_die, base, tmp_path, Marks(), (step, 0.0), unbroken["seconds"])
            assert code == -signal.SIGKILL
    assert processes.run(fit, base, tmp_path, Marks()) == 0
    check(tmp_path, unbroken)


def short(base: Path) -> Any:
    """A step of warm-up and a round."""
    return gates.module(gates.full(base), warmup=faulty_runs.Warmup(2), rounds=1)


def fit_short(base: Path, folder: Path, writes: Any, fatal: int = -1) -> None:
    """A short run that counts its changes of the file system, and is killed right before one of them."""

    def before(path: str) -> None:
        if path.startswith(str(folder)):
            if writes.value == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            writes.value += 1

    writes.value = 0
    faulty_runs.on_each_change(before)
    fit(base, folder, Marks(), build=short)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@NOISE
def test_a_kill_before_every_change_of_the_file_system(base: Path, tmp_path: Path, processes: Any, fault: Any) -> None:
    """Not at random: every open, rename, link and removal of a run that saves twice, and its adapters."""
    writes = faulty_runs.FORK.Value("i", 0)
    assert processes.run(fit_short, base, tmp_path / "whole", writes) == 0
    expected, count = faulty_runs.final(tmp_path / "whole")["state"], writes.value
    assert count > 20, "opens, renames and links were seen"
    for fatal in range(count):
        folder = tmp_path / str(fatal)
        with fault("kill -9 before a write"):
            assert processes.run(fit_short, base, folder, writes, fatal) == -signal.SIGKILL
            assert processes.run(fit_short, base, folder, writes) == 0
            assert gates.largest_difference(faulty_runs.final(folder)["state"], expected) == 0
            left = [path.name for path in folder.rglob("*") if path.suffix in (".writing", ".partial", ".old")]
            assert not left, f"killed before write {fatal}"
