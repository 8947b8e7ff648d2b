"""Where curves go: by default, where the user says, and nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from rairl_lightning.callbacks import MetricsCSV
from rairl_lightning.callbacks.hyperparameters import Hyperparameters
from rairl_lightning.cli import guarded
from rairl_lightning.cli_parser import RAIRLCLI

Run = Callable[..., int]


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Those of every Trainer that is built."""
    seen: list[list[Any]] = []
    instantiate = RAIRLCLI.instantiate_trainer

    def remembered(self: RAIRLCLI, **kwargs: Any) -> Any:
        trainer = instantiate(self, **kwargs)
        seen.append(list(trainer.loggers))
        return trainer

    monkeypatch.setattr(RAIRLCLI, "instantiate_trainer", remembered)
    return seen


@pytest.fixture
def rairl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command on the toy model, in this process; the exit code."""
    import cli_toy

    from rairl_lightning.cli_parser import launch

    monkeypatch.setattr(sys, "argv", ["rairl"])
    flags = [f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    flags += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]

    def run(*args: str, command: str = "fit") -> int:
        return guarded(lambda: launch([command, "--model=cli_toy.Toy", *flags, *args], cli_toy.ToyData))

    return run


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("asked", [(), ("--trainer.logger=true",)])
def test_by_default_there_are_events_and_a_table(
    asked: tuple[str, ...], rairl: Run, loggers: list[list[Any]], tmp_path: Path
) -> None:
    assert rairl(*asked) == 0
    (found,) = loggers
    assert [type(one) for one in found] == [TensorBoardLogger, MetricsCSV]
    assert len(list((tmp_path / "logs").glob("events.*"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {".running", "config.yaml", "final.pt", "logs"}
    assert yaml.safe_load((tmp_path / "logs" / "hparams.yaml").read_text())["model"] == "Toy"


def test_the_users_loggers_win(rairl: Run, loggers: list[list[Any]], tmp_path: Path) -> None:
    one = f"{{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: mine}}}}"
    two = f"{{class_path: rairl_lightning.callbacks.MetricsCSV, init_args: {{save_dir: {tmp_path}, name: table}}}}"
    assert rairl(f"--trainer.logger=[{one}, {two}]") == 0
    assert [type(one) for one in loggers[0]] == [CSVLogger, MetricsCSV]
    assert not (tmp_path / "logs").exists() and (tmp_path / "mine").exists()


@pytest.mark.parametrize("flag", ["--trainer.logger=false", "--trainer.fast_dev_run=true"])
def test_nothing_is_written_where_nothing_is_wanted(
    flag: str, rairl: Run, loggers: list[list[Any]], tmp_path: Path
) -> None:
    assert rairl(flag) == 0
    assert not (tmp_path / "logs").exists()
    assert not any(isinstance(one, TensorBoardLogger | MetricsCSV) for one in loggers[0])


def test_a_command_beside_fit_leaves_its_curves_alone(rairl: Run, tmp_path: Path) -> None:
    assert rairl() == 0
    before = files(tmp_path / "logs")
    assert rairl(command="validate") == 0
    assert files(tmp_path / "logs") == before
    assert list((tmp_path / "logs" / "validate").glob("events.*"))


def test_a_package_that_is_missing_is_named_with_the_remedy(rairl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.util import find_spec

    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    assert rairl("--trainer.logger=lightning.pytorch.loggers.WandbLogger") == 2
    told = capsys.readouterr().err
    assert (
        "needs a package that is not installed" in told
        and "(for WandbLogger: wandb)" in told
        and "Traceback" not in told
    )


def test_a_run_that_came_to_nothing_is_not_mixed_with_the_next(rairl: Run, tmp_path: Path) -> None:
    assert rairl("--model.disk_full=true") != 0
    assert rairl("--model.lr=0.2") == 0
    rates = {folder: yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["lr"]
             for folder in (tmp_path, tmp_path / "earlier" / "001")}  # fmt: skip
    assert list(rates.values()) == [0.2, 0.1]


def test_fit_alone_describes_a_run(rairl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Hyperparameters, "on_train_start", lambda self, *_: said.append(self.settings["model"]))
    assert rairl() == 0 and rairl(command="validate") == 0
    assert said == ["Toy"]
