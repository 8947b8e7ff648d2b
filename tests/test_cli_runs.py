"""Where `rairl fit` writes, what it says of itself there, and that a dry run does everything and leaves nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from rairl_lightning import __version__
from rairl_lightning.callbacks.own_folder import OneFolder
from rairl_lightning.cli import main
from rairl_lightning.evaluation import provenance
from rairl_lightning.evaluation.provenance import commit, repository

ANY_WARNING = pytest.mark.filterwarnings("default")  # of the Trainer, about this machine
Rairl = Callable[..., int]


@pytest.fixture
def rairl(root: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rairl:
    """A shipped configuration on a model and problems of the toy language, from an empty folder."""
    data, here, overlay = tmp_path / "gsm8k", tmp_path / "here", tmp_path / "tiny.yaml"
    data.mkdir()
    here.mkdir()
    rows = [json.dumps({"question": f"gate {gate}", "answer": "1 + 2 = 3\ngo left\n#### 3"}) for gate in range(40)]
    (data / "train.jsonl").write_text("\n".join(rows[:32]))
    (data / "test.jsonl").write_text("\n".join(rows[32:]))
    pair = {"backbone": {"path": str(base), "quantisation": None, "dtype": "float32"}, "policy_lora": {"r": 4}}
    sampler = {"init_args": {"max_new_tokens": 24}}
    overlay.write_text(yaml.safe_dump({"model": {"init_args": {"pair": {"init_args": pair}, "sampler": sampler}}}))
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["rairl"])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def run(command: str, name: str, *args: str) -> int:
        files = [root / "configs" / f"{one}.yaml" for one in (name, "hardware/cpu")] + [overlay]
        return main([command, *(f"--config={file}" for file in files), f"--data.path={data}", *args])

    return run


@ANY_WARNING
@pytest.mark.parametrize(
    ("name", "args", "done", "written"),
    [
        (
            "gsm8k",
            ["--trainer.fast_dev_run=2", "--model.group_size=4"],
            "sft 2; warm-up 2; adversarial 2; updates of the discriminator 12, of the policy 2; validations 3.",
            ["adapters", "checkpoints", "health.json", "leaks.json", "localisation.jsonl", "reranking.jsonl"],
        ),
        (
            "gsm8k_sft",
            ["--trainer.fast_dev_run=true"],
            "sft 1; updates of the discriminator 0, of the policy 0; validations 1.",
            ["adapters", "checkpoints", "reranking.jsonl", "token_rewards.jsonl", "traces.jsonl"],
        ),
        pytest.param(
            "gsm8k_grpo",
            ["--trainer.fast_dev_run=true"],
            "sft 1; adversarial 1; updates of the discriminator 0, of the policy 1; validations 2.",
            ["adapters", "checkpoints", "health.json", "reranking.jsonl", "token_rewards.jsonl", "traces.jsonl"],
            marks=pytest.mark.slow,  # what it shares with the others is most of it
        ),
    ],
    ids=["rairl", "sft", "grpo"],
)
def test_a_dry_run_does_everything_and_leaves_nothing(
    name: str, args: list[str], done: str, written: list[str], rairl: Rairl, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rairl("fit", name, *args) == 0
    out = capsys.readouterr().out
    assert f"Steps: {done}\n" in out, out
    (removed,) = re.findall(r"^Written and removed: (.+)\.$", out, re.MULTILINE)
    assert set(written) <= set(removed.split(", "))
    assert list(Path().iterdir()) == [], "nothing is left"


@ANY_WARNING
def test_a_run_without_a_folder_has_a_dated_one_and_goes_on_there(rairl: Rairl, root: Path) -> None:
    unnamed = ["--trainer.default_root_dir=null", "--trainer.logger=false", "--trainer.callbacks=[AdapterCheckpoint]"]
    assert rairl("fit", "gsm8k_sft", *unnamed) == 0
    (run,) = (path for path in Path("runs").iterdir() if not path.is_symlink())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}_sft-gsm8k", run.name)
    assert Path("runs/latest").resolve() == run.resolve()
    config = (run / "config.yaml").read_text()
    assert (
        f"# rairl_lightning {__version__}, commit {commit()}\n" in config and f"# torch {torch.__version__}" in config
    )
    assert yaml.safe_load(config)["trainer"]["default_root_dir"] == str(run)
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    more = ["--model.sft.epochs=2", "--ckpt_path=last"]
    assert rairl("fit", "gsm8k_sft", *unnamed, *more) == 0
    assert {path.name for path in Path("runs").iterdir()} == {run.name, "latest"}, "it went on in its own folder"
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns > before
    assert main(["report"]) == 0 and (run / "report.html").is_file()


def test_a_report_without_a_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 5
    assert "There is no run in runs/." in capsys.readouterr().err


def test_every_process_writes_to_the_folder_of_the_first() -> None:
    class Strategy:
        def broadcast(self, folder: str) -> str:
            return folder.replace("141501", "141500")

    class Process:
        strategy, _default_root_dir = Strategy(), "runs/2026-11-29_141501_sft-gsm8k"
        default_root_dir = property(lambda self: self._default_root_dir)

    process = Process()
    OneFolder().setup(process, None, "fit")  # type: ignore[arg-type]
    assert process.default_root_dir == "runs/2026-11-29_141500_sft-gsm8k"


def test_the_users_own_repository_is_named(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository(tmp_path) is None and repository(root) is None, "none, or that of the package"

    def git(*args: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *args], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    assert repository(tmp_path) == f"{tmp_path.name} at no commit"
    (tmp_path / "own.py").write_text("a = 1\n")
    git("add", "own.py")
    git("commit", "-m", "one")
    assert re.fullmatch(rf"{tmp_path.name} at [0-9a-f]{{12}}", repository(tmp_path) or "")
    (tmp_path / "own.py").write_text("a = 2\n")
    assert re.fullmatch(rf"{tmp_path.name} at [0-9a-f]{{12}}-dirty", repository(tmp_path) or "")
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path)  # an environment in the user's own checkout
    (tmp_path / "provenance.py").touch()
    assert commit() == "unknown", "it is not theirs"
    git("add", "provenance.py")
    assert re.fullmatch(r"[0-9a-f]{12}-dirty", commit()) and repository(tmp_path) is None, "control: a checkout of ours"
