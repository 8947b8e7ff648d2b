"""What a run finds in its folder, by where it goes on from."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rairl_lightning.callbacks.own_folder import CONFIG, RunLock, put_aside
from rairl_lightning.cli import guarded
from rairl_lightning.evaluation.run_folder import TRACES, append_rows, take_back_rows


def written(path: Path, batches: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"rairl": {"clock": {"batches": batches}}}, path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of ten steps with its curves, and something of the user's own."""
    run = tmp_path / "run"
    for name, batches in (("round-000005", 5), ("last", 10)):
        written(run / "checkpoints" / f"{name}.ckpt", batches)
    written(run / "interrupted.ckpt", 7)
    (run / "logs" / "version_0").mkdir(parents=True)
    for name in (TRACES, CONFIG, "notes.txt"):
        (run / name).write_text(name)
    return run


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_goes_on_from_its_last_checkpoint_finds_all(run: Path) -> None:
    before = names(run)
    assert put_aside(run, run / "checkpoints" / "last.ckpt") is None and names(run) == before


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_run_that_starts_anew_finds_nothing(run: Path, tmp_path: Path, elsewhere: bool) -> None:
    other = written(tmp_path / "other" / "checkpoints" / "last.ckpt", 3) if elsewhere else None
    before, outside = names(run) - {"notes.txt"}, tmp_path / "elsewhere"
    outside.mkdir()
    aside = put_aside(run, other, [run / "logs", outside, run / "none", run])
    assert aside == run / "earlier" / "001" and names(aside) == before
    assert names(run) == {"notes.txt", *(f"earlier/001/{name}" for name in before)} and outside.is_dir()
    assert (aside / "logs").is_dir() and not (run / "logs").exists()
    assert put_aside(run, other) is None, "there is nothing left"
    written(run / "checkpoints" / "last.ckpt", 1)
    assert put_aside(run, other) == run / "earlier" / "002"


def test_checkpoints_of_another_future_are_put_aside(run: Path) -> None:
    """Else --ckpt_path last would go on from them, after the next interruption."""
    aside = put_aside(run, run / "checkpoints" / "round-000005.ckpt")
    assert aside is not None and names(aside) == {"checkpoints/last.ckpt", "interrupted.ckpt", TRACES, CONFIG}
    assert (run / TRACES).is_file() and (run / "checkpoints" / "round-000005.ckpt").is_file()
    assert not (run / "checkpoints" / "last.ckpt").exists()


def test_a_checkpoint_of_another_kind_within_the_folder_stays_where_it_is(run: Path) -> None:
    """As ModelCheckpoint puts it, of a model that is not ours."""
    path = run / "logs" / "version_0" / "checkpoints" / "epoch=1.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {}}, path)
    before = names(run)
    assert put_aside(run, path, [run / "logs"]) is None and names(run) == before


def test_what_was_put_aside_is_of_another_run(run: Path) -> None:
    aside = put_aside(run, None)
    assert aside is not None
    written(run / "checkpoints" / "last.ckpt", 1)
    assert put_aside(run, aside / "checkpoints" / "last.ckpt") == run / "earlier" / "002"
    assert (aside / "checkpoints" / "last.ckpt").is_file()


def test_a_folder_with_nothing_of_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("a: 1")  # a run that came to nothing
    assert put_aside(tmp_path, None, [tmp_path]) is None and names(tmp_path) == {CONFIG}


def test_a_requeued_job_goes_on_where_slurm_stopped_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cli_toy

    from rairl_lightning.cli_parser import launch

    seen: list[bool] = []
    monkeypatch.setattr(sys, "argv", ["rairl"])
    monkeypatch.setattr(cli_toy.Toy, "on_fit_start", lambda self: seen.append((tmp_path / "hpc_ckpt_1.ckpt").exists()))
    flags = [f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    flags += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    args = ["fit", "--model=cli_toy.Toy", *flags]
    for detected in (False, True):
        path = written(tmp_path / "hpc_ckpt_1.ckpt", 1)
        slurm = SimpleNamespace(detect=lambda detected=detected: detected)
        monkeypatch.setattr("rairl_lightning.cli_parser.SLURMEnvironment", slurm)  # ours, not Lightning's
        assert guarded(lambda: launch(args, cli_toy.ToyData)) == 0
        path.unlink(missing_ok=True)
    assert seen == [False, True]


def test_the_lock_is_let_go_and_its_file_stays(tmp_path: Path) -> None:
    with RunLock(tmp_path / "new") as lock:
        assert lock.path.read_text().startswith("process ")
    with RunLock(tmp_path / "new") as again:
        assert again.path == lock.path


def test_rows_behind_a_checkpoint_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    take_back_rows(path, 1)
    assert not path.exists()
    append_rows(path, [{"round": number, "split": "selection"} for number in (1, 2, 3)])
    append_rows(path, [{"round": 9, "split": "test"}, {"round": "9", "split": "selection"}, {"other": 1}])
    with path.open("a") as file:
        file.write('[1]\nno JSON\n{"round": 2, "spl')
    take_back_rows(path, 2)
    lines = path.read_text().splitlines()
    kept = ['{"round": 1', '{"round": 2', '{"round": 9', '{"round": "', '{"other": 1', "[1]", "no JSON"]
    assert [line[:11] for line in lines] == kept
    assert path.read_text().endswith("\n") and not list(tmp_path.glob("*.partial"))
