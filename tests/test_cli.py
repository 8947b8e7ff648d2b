"""The command line: what it says, what it refuses, and how it stops."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rairl_lightning.cli import guarded, main
from rairl_lightning.errors import CheckpointError
from rairl_lightning.evaluation.provenance import devices

Run = Callable[..., int]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make ``cli_toy`` importable by class path."""
    folder = Path(__file__).parent
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def fit(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``rairl fit`` on the toy model in this process; returns the exit code."""
    import cli_toy

    from rairl_lightning.cli_parser import launch

    monkeypatch.setattr(sys, "argv", ["rairl"])

    def run(*args: str, folder: Path = tmp_path, epochs: int = 2) -> int:
        quiet = [
            "--trainer.logger=false",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
        ]
        common = [f"--trainer.default_root_dir={folder}", f"--trainer.max_epochs={epochs}", "--trainer.accelerator=cpu"]
        return guarded(lambda: launch(["fit", "--model=cli_toy.Toy", *common, *quiet, *args], cli_toy.ToyData))

    return run


# --- Light commands -----------------------------------------------------------------------------------------------


def test_no_arguments_say_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "rairl fit --config configs/quickstart.yaml" in capsys.readouterr().out


def test_version_names_what_decides_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    named = (
        "rairl_lightning",
        "python 3",
        "torch 2",
        "lightning 2",
        "transformers 5",
        "peft",
        "bitsandbytes",
        "\ndevice ",
    )
    assert all(name in out for name in named)


def test_version_names_every_accelerator_as_its_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(devices()) == 1 and devices()[0].startswith("device cpu, ")
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\nprintf 'One, 24564 MiB, 550.1\\nTwo, 24564 MiB, 550.1\\n'\n")
    driver.chmod(0o755)
    assert devices() == ["device One, 24564 MiB, 550.1", "device Two, 24564 MiB, 550.1"]
    driver.write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert devices()[0].startswith("device cpu, ")


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_light_commands_import_nothing_heavy(argument: str) -> None:
    code = f"import sys; from rairl_lightning.cli import main; main([{argument!r}]); "
    code += "sys.exit(bool({'torch', 'lightning', 'transformers', 'jsonargparse'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


# --- What a wrong configuration is told ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--trainer.max_stepss=1", "did you mean 'trainer.max_steps'?"),
        ("--dta.path=x", "did you mean 'data.path'?"),
        ("--max_steps=1", "did you mean 'trainer.max_steps'?"),
        ("--model.lrr=1", "did you mean 'model.lr'?"),
        ("--model.loss.label_smothing=0.2", "did you mean 'model.loss.label_smoothing'?"),
        ("--model.backbone.dtpe=x", "did you mean 'model.backbone.dtype'?"),
        ("--model.loss=Pairwize", "did you mean 'cli_toy.Pairwise'?"),
        ("--model.loss=cli_toy.Pairwize", "did you mean 'cli_toy.Pairwise'?"),
        ("--model.loss=cli_toyy.Pairwise", "did you mean 'cli_toy.Pairwise'?"),
        ("--model.loss=torch.nn.Linear", "expected: cli_toy.Pairwise or cli_toy.Smoothed"),
        ("--model=cli_toy.Toyy", "did you mean 'cli_toy.Toy'?"),
        ("--model=torch.nn.Linear", "model takes a LightningModule."),
        ("--model.lr=abc", "expected: float\n  got:      abc"),
        ("--trainer.callbacks+=ModelChekpoint", "did you mean 'lightning.pytorch.callbacks.ModelCheckpoint'"),
        ("--model.loss.label_smoothing=0.7", "Too smooth.\n  expected: 0 <= label_smoothing < 0.5"),
        ("--trainer.accelerator=abacus", "invalid accelerator name"),
        ("--config=no_such_file.yaml", "no_such_file.yaml"),
    ],
)
def test_wrong_argument_is_explained(fit: Run, capsys: pytest.CaptureFixture[str], argument: str, told: str) -> None:
    assert fit(argument) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "usage:" not in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modle: {class_path: cli_toy.Toy}", "did you mean 'model"),
        ("model: {class_path: cli_toy.Toy, init_args: {lrr: 1}}", "did you mean 'model.lr'?"),
        (
            "model: {class_path: cli_toy.Toy, init_args: {loss: {class_path: Smoothed, init_args: {smoothing: 0.2}}}}",
            "did you mean 'model.loss.label_smoothing'?",
        ),
        ("model: {class_path: cli_toy.Toy, init_args: {backbone: {dtpe: x}}}", "did you mean 'model.backbone.dtype'?"),
        ("data: {pth: x}", "did you mean 'data.path'?"),
        ("model: [", "not valid YAML"),
    ],
)
def test_wrong_yaml_is_explained(
    fit: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    assert fit(f"--config={tmp_path}/wrong.yaml") == 2
    assert told in capsys.readouterr().err


def test_missing_config_names_its_neighbour(fit: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gsm8k.yaml").write_text("seed_everything: 1")
    assert fit(f"--config={tmp_path}/gsm8.yaml") == 2
    assert f"did you mean '{tmp_path}/gsm8k.yaml'?" in capsys.readouterr().err


def test_unknown_command_is_explained(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cli_toy

    from rairl_lightning.cli_parser import launch

    monkeypatch.setattr(sys, "argv", ["rairl"])
    assert guarded(lambda: launch(["fti"], cli_toy.ToyData)) == 2
    assert "did you mean 'fit'?" in capsys.readouterr().err


def test_an_error_that_quotes_a_file_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise CheckpointError("No \x1b[2Jrun\u202e.", got="\udc80", remedy="another")

    assert guarded(fail) == 5
    assert capsys.readouterr().err == "error: No \\x1b[2Jrun\\u202e.\n  got:      \\udc80\n  remedy:   another\n"


# --- What the Trainer may not be told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--trainer.accumulate_grad_batches=2", "model.init_args.max_tokens_per_microbatch"),
        ("--trainer.gradient_clip_val=1", "model.init_args.gradient_clip"),
        ("--trainer.precision=16-mixed", "bf16-mixed"),
        ("--trainer.precision=16", "bf16-mixed"),
        ("--trainer.precision=bf16-true", "no float32 copy"),
        ("--trainer.strategy=fsdp", "one device"),
        ("--trainer.strategy=FSDPStrategy", "one device"),
        ("--trainer.strategy=deepspeed_stage_2", "there are two players"),
        ("--trainer.strategy=ModelParallelStrategy", "fsdp2 is it"),
        ("--trainer.strategy=fsdp_cpu_offload", "cannot clip by norm"),
    ],
)
def test_forbidden_trainer_flag(fit: Run, capsys: pytest.CaptureFixture[str], argument: str, told: str) -> None:
    assert fit(argument) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--trainer.accumulate_grad_batches=1", "--trainer.precision=bf16-mixed"])
def test_allowed_trainer_flag(fit: Run, argument: str) -> None:
    assert fit(argument, epochs=1) == 0


# --- How a run ends -----------------------------------------------------------------------------------------------


def test_short_names_reach_nested_arguments(fit: Run, tmp_path: Path) -> None:
    assert fit("--model.loss=Smoothed", "--model.loss.label_smoothing=0.3", "--data.batches=2", epochs=1) == 0
    assert "label_smoothing: 0.3" in (tmp_path / "config.yaml").read_text()
    assert fit(epochs=1) == 0  # a second run in the same folder may overwrite config.yaml


def test_full_disk_is_named(fit: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--model.disk_full=true") == 5
    assert "The disk is full" in capsys.readouterr().err


def test_configured_values_survive_a_checkpoint(fit: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit('--model.signals=["SIGINT"]') == 130
    assert fit(f"--ckpt_path={tmp_path}/interrupted.ckpt", "--model.loss=Pairwise") == 0
    assert "cli_toy.Pairwise" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "during", "code"),
    [
        ("SIGINT", "training", 130),
        ("SIGINT", "validation", 130),
        ("SIGTERM", "training", 143),
        ("SIGTERM", "validation", 143),
    ],
)
def test_signal_saves_and_resume_is_exact(fit: Run, tmp_path: Path, name: str, during: str, code: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert fit(folder=whole, epochs=3) == 0
    assert fit(f'--model.signals=["{name}"]', f"--model.during={during}", folder=cut, epochs=3) == code
    assert not (cut / "final.pt").exists()
    assert [file.name for file in cut.glob("interrupted*")] == ["interrupted.ckpt"]
    saved = torch.load(cut / "interrupted.ckpt", weights_only=True)
    assert saved["global_step"] == {"training": 10, "validation": 16}[during]
    assert fit(f"--ckpt_path={cut}/interrupted.ckpt", folder=cut, epochs=3) == 0
    assert torch.equal(torch.load(whole / "final.pt"), torch.load(cut / "final.pt"))
    assert not torch.equal(torch.load(whole / "final.pt"), saved["state_dict"]["weight"])  # the comparison can fail


def test_other_callbacks_see_the_last_round(fit: Run, tmp_path: Path) -> None:
    listed = ["--trainer.callbacks+=rairl_lightning.callbacks.interrupt.InterruptCheckpoint"]
    listed += ["--trainer.callbacks+=cli_toy.Rounds"]
    assert fit('--model.signals=["SIGTERM"]', *listed) == 143
    assert torch.load(tmp_path / "interrupted.ckpt", weights_only=True)["callbacks"]["Rounds"] == {"seen": 10}


def test_second_interrupt_stops_at_once_and_saves_nothing(fit: Run, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    assert fit('--model.signals=["SIGINT", "SIGINT"]') == 130
    assert not list(tmp_path.glob("interrupted*"))
    assert signal.getsignal(signal.SIGINT) is handler


def test_interrupting_the_process(fit: Run, tmp_path: Path) -> None:
    """Forked from this one, so that nothing is imported again."""
    reading, writing = os.pipe()
    told = tmp_path / "stderr"

    def run() -> None:
        os.dup2(writing, 1)
        os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        for name in ("lightning", "lightning.pytorch", "lightning.fabric"):  # each may have one: what is imported first
            for handler in filter(lambda one: isinstance(one, logging.StreamHandler), logging.getLogger(name).handlers):
                handler.setStream(sys.stderr)  # it writes to the one it was born with
        sys.exit(fit(epochs=1000000))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert any(line.startswith("round 3") for line in lines), told.read_text()
        os.kill(process.pid or 0, signal.SIGINT)
        lines.read()  # a full pipe would hold the rest up
    process.join(timeout=60)
    err = told.read_text()
    assert process.exitcode == 130, err
    assert f"Saved {tmp_path}/interrupted.ckpt" in err and "Traceback" not in err
    assert torch.load(tmp_path / "interrupted.ckpt", weights_only=True)["global_step"] >= 3


def test_a_checkpoint_that_is_not_there_is_one_message(fit: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--ckpt_path=nowhere.ckpt") == CheckpointError.exit_code
    told = capsys.readouterr().err
    assert "nowhere.ckpt" in told and "--ckpt_path" in told and "Traceback" not in told


def test_a_checkpoint_that_holds_code_is_not_run(fit: Run, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.ckpt")
    assert fit(f"--ckpt_path={tmp_path / 'trap.ckpt'}") == CheckpointError.exit_code
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "trap.ckpt", weights_only=False)
    assert (tmp_path / "ran").exists(), "negative control: the trap works"
