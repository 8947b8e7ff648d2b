"""The runner: order, failures, being stopped in every way, going on."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rairl_lightning.evaluation.provenance import commit

START = ["start/SFT/none/none/none/0"]
DISCRIMINATORS = [f"discriminator/D/{name}/linear/bce/0" for name in ("sparse", "interval", "step", "dense")]
POLICIES = [f"policy/R-AIRL/{name}/linear/bce/{seed}" for name in ("interval", "step") for seed in (0, 1)]
FIELDS = ["key", "stage", "algorithm", "granularity", "head", "loss", "seed", "seconds", "commit", "dirty"]


def findings(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What must not depend on when or how often we were stopped."""
    return {line["key"]: line["measurements"] for line in lines if "error" not in line}


def seen(toy, key: str) -> dict[str, Any]:
    return json.loads((toy.out / key / "seen.json").read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Running; a zombie that nobody reaps (we may not be its parent) is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_stages_in_order_policies_from_the_best_discriminators_and_nothing_twice(toy) -> None:
    status, printed, _ = toy.run()
    lines = toy.lines()
    keys = [line["key"] for line in lines]
    assert status == 0
    assert keys[:1] == START
    assert sorted(keys[1:5]) == sorted(DISCRIMINATORS)
    assert sorted(keys[5:]) == sorted(POLICIES)  # step and interval have the greatest AUROC
    assert all(list(line) == [*FIELDS, "measurements"] for line in lines)
    assert {line["commit"] + "-dirty" * line["dirty"] for line in lines} == {commit()}
    assert [line for line in printed.splitlines() if line.startswith("4/4  policy/")]
    step = next(line for line in lines if line["key"] == POLICIES[3])
    assert step["measurements"][0] == {"metric": "auroc", "mean": 0.91, "low": 0.91 - 0.1, "high": 0.91 + 0.1}
    assert step["measurements"][1] == {"metric": "odd", "mean": None, "low": 0.0, "high": None}
    # Processes of their own, with one thread.
    children = [seen(toy, key) for key in keys]
    assert len({child["pid"] for child in children}) == len(keys)
    assert {child["threads"] for child in children} == {"1"}
    before = toy.ledger.read_bytes()
    assert toy.run()[0] == 0
    assert toy.ledger.read_bytes() == before


@pytest.mark.slow
def test_a_failure_costs_its_own_run_only_and_is_tried_again(toy) -> None:
    toy.plan = {DISCRIMINATORS[0]: "crash", DISCRIMINATORS[1]: "kill", DISCRIMINATORS[3]: "exit"}
    stale = toy.out / DISCRIMINATORS[3] / "measurements.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("[]")  # of an attempt that was stopped before it was recorded
    status, printed, _ = toy.run("--stages", "discriminator", "start")
    errors = {line["key"]: line["error"] for line in toy.lines() if "error" in line}
    assert status == 1
    assert errors == {
        DISCRIMINATORS[0]: "rairl_lightning.errors.TrainingError: The toy broke.",
        DISCRIMINATORS[1]: "killed by SIGKILL",
        DISCRIMINATORS[3]: "ended without measurements",
    }
    assert findings(toy.lines()).keys() == {*START, DISCRIMINATORS[2]}
    log = (toy.out / DISCRIMINATORS[0] / "log.txt").read_text()
    assert "Traceback" in log and "remedy:   try again" in log
    assert f"FAILED  {errors[DISCRIMINATORS[0]]}" in printed
    good = toy.ledger.read_bytes()
    toy.plan = {}
    assert toy.run("--stages", "discriminator")[0] == 0
    assert toy.ledger.read_bytes().startswith(good)  # only ever appended to
    again = toy.lines()[len(good.splitlines()) :]
    assert {line["key"] for line in again} == errors.keys()
    assert all("error" not in line for line in again)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_continued_finds_what_an_unbroken_run_finds(toy, unbroken, number: signal.Signals) -> None:
    done, under_way = DISCRIMINATORS[:2], DISCRIMINATORS[2:]
    toy.plan = dict.fromkeys(under_way, "hang")  # for longer than this test: a child that ended was ended
    process = toy.start("--stages", "discriminator")
    paths = [toy.out / key / "below" for key in under_way]
    wait_for(lambda: all(path.exists() and path.read_text() for path in paths))
    children = [int(path.read_text()) for path in paths] + [seen(toy, key)["pid"] for key in under_way]
    assert all(alive(pid) for pid in children)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    wait_for(lambda: not any(alive(pid) for pid in children))
    asked = [(toy.out / key / "asked").exists() for key in under_way]
    assert asked == [number != signal.SIGKILL] * 2  # nobody is left to ask after a kill
    before = toy.lines()
    assert findings(before).keys() == set(done)
    toy.plan = {}
    assert toy.run("--stages", "discriminator", "--workers", "1")[0] == 0
    assert toy.lines()[:2] == before
    assert findings(toy.lines()) == findings(unbroken.lines())
    assert findings(toy.lines()).keys() == set(DISCRIMINATORS)


def test_a_torn_last_line_costs_its_run_only(toy, unbroken) -> None:
    toy.out.mkdir()
    whole = unbroken.ledger.read_bytes()
    toy.ledger.write_bytes(whole[:-20])
    assert toy.run("--stages", "discriminator")[0] == 0
    assert toy.ledger.read_bytes().splitlines()[:-1] == whole.splitlines()[:-1]
    assert len(toy.lines()) == len(DISCRIMINATORS)
    assert findings(toy.lines()) == findings(unbroken.lines())


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_side_by_side(toy, workers: int) -> None:
    toy.plan = {"together": workers}
    assert toy.run("--stages", "discriminator", "--workers", str(workers))[0] == 0
    spans = [json.loads((toy.out / key / "span.json").read_text()) for key in DISCRIMINATORS]
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_once) == workers


def test_smoke_runs_do_not_count_as_done(toy) -> None:
    assert toy.run("--stages", "discriminator", "--smoke")[0] == 0
    assert len((toy.out / "smoke" / "runs.jsonl").read_text().splitlines()) == 1
    assert not toy.ledger.exists()


@pytest.mark.slow
def test_two_do_not_write_into_one_folder(toy) -> None:
    toy.plan = {START[0]: "hang"}
    first = toy.start("--stages", "start")
    wait_for((toy.out / START[0] / "seen.json").exists)
    try:
        status, _, complaint = toy.run("--stages", "start")
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert status == 2
    assert "Another ablation is writing" in complaint
    toy.plan = {}
    assert toy.run("--stages", "start")[0] == 0  # the lock went with the process


@pytest.mark.parametrize("key", ["the same", "../outside", "/outside"])
def test_runs_without_a_folder_of_their_own_are_refused(toy, key: str) -> None:
    toy.plan = {"key": key}
    status, _, complaint = toy.run("--stages", "discriminator")
    assert status == 2
    assert "folder of their own" in complaint


def test_one_run_by_hand_is_not_recorded(toy) -> None:
    status, _, _ = toy.run("--one", DISCRIMINATORS[2])
    assert status == 0
    assert json.loads((toy.out / DISCRIMINATORS[2] / "measurements.json").read_text())[0]["mean"] == 0.9
    assert not toy.ledger.exists()
    status, _, complaint = toy.run("--one", "policy/none")
    assert status != 0
    assert "There is no such run." in complaint
