"""Names of run folders that nobody chose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rairl_lightning.evaluation import run_names
from rairl_lightning.evaluation.run_names import folder_of, latest, point_latest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path


def made(*names: str) -> None:
    for name in names:
        (Path("runs") / name).mkdir(parents=True)


def test_a_new_run_is_dated_and_unlike_any_other() -> None:
    first = folder_of("rairl-gsm8k", None, fit=True)
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d_\d{6}_rairl-gsm8k", str(first))
    taken = {first}
    for _ in range(3):  # within the same second, or not
        made(folder_of("rairl-gsm8k", None, fit=True).name)
        taken.add(new := folder_of("rairl-gsm8k", None, fit=True))
        assert not new.exists()
    assert len(taken) >= 3


def test_a_run_goes_on_where_it_was() -> None:
    made("2026-11-28_101500_rairl-gsm8k", "2026-11-29_101500_rairl-gsm8k", "2026-11-30_101500_sft-gsm8k", "own")
    made("2026-11-30_101500_rairl-gsm8k-hard", "zz_rairl-gsm8k")
    newest = Path("runs/2026-11-29_101500_rairl-gsm8k")
    assert folder_of("rairl-gsm8k", "last", fit=True) == newest == folder_of("rairl-gsm8k", "best", fit=True)
    assert folder_of("rairl-gsm8k", None, fit=False) == newest, "what evaluates makes no folder"
    older = "runs/2026-11-28_101500_rairl-gsm8k"
    assert folder_of("rairl-gsm8k", f"{older}/checkpoints/last.ckpt", fit=True) == Path(older)
    assert folder_of("rairl-gsm8k", "runs/own/interrupted.ckpt", fit=True) == Path("runs/own")
    fresh = [folder_of("rairl-gsm8k", one, fit=True) for one in (None, "elsewhere/last.ckpt")]
    assert not any(one.exists() for one in fresh), "control: these start anew"
    made(f"{newest.name}.2")
    assert folder_of("rairl-gsm8k", "last", fit=True) == Path(f"{newest}.2")


def test_the_first_start_of_a_job_that_always_says_last_is_new() -> None:
    made("2026-11-29_101500_sft-gsm8k")
    assert not folder_of("rairl-gsm8k", "last", fit=True).exists()
    assert folder_of("rairl-gsm8k", "last", fit=False) == Path("runs")


def test_a_requeued_job_finds_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    first = folder_of("rairl-gsm8k", None, fit=True)
    assert first.name.endswith("_rairl-gsm8k-job17")
    made(first.name, "2099-01-01_000000_rairl-gsm8k-job18")
    assert folder_of("rairl-gsm8k", None, fit=True) == first
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert folder_of("rairl-gsm8k", None, fit=True) != first


def test_the_latest_run_is_the_one_started_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert latest() is None
    made("2026-11-29_101500_sft-gsm8k", "2026-11-28_101500_sft-gsm8k", "quickstart")
    assert latest() == Path("runs/2026-11-29_101500_sft-gsm8k"), "without a link, by the date"
    for name in ("quickstart", "2026-11-28_101500_sft-gsm8k"):
        point_latest(Path("runs") / name)
        assert latest() == Path("runs") / name and Path("runs/latest").resolve() == Path("runs", name).resolve()
    made("../elsewhere")
    point_latest(Path("elsewhere"))
    assert latest() == Path("runs/2026-11-28_101500_sft-gsm8k") and not Path("latest").exists()
    assert sorted(path.name for path in Path("runs").glob(".*")) == []


def test_a_file_system_without_links_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made("2026-11-29_101500_sft-gsm8k")
    monkeypatch.setattr(run_names.Path, "symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError("no links")))
    point_latest(Path("runs/2026-11-29_101500_sft-gsm8k"))
    assert latest() == Path("runs/2026-11-29_101500_sft-gsm8k")
