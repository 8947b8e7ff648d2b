"""What YAML makes Python import is said before it is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rairl_lightning.cli import guarded
from rairl_lightning.cli_imports import announce, import_paths

Fit = Callable[..., int]
LOUD = """
import sys
print("it runs", file=sys.stderr)
from cli_toy import Smoothed
class Loud(Smoothed): pass
"""


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    import cli_toy

    from rairl_lightning.cli_parser import launch

    monkeypatch.setattr(sys, "argv", ["rairl"])
    monkeypatch.syspath_prepend(tmp_path)
    flags = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    flags += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    return lambda *args: guarded(lambda: launch(["fit", *args, *flags], cli_toy.ToyData))


@pytest.mark.parametrize("form", ["class_path: {}", "{}"])
def test_it_is_said_before_it_runs(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    name = f"loud{len(form)}"  # a module runs once
    (tmp_path / f"{name}.py").write_text(LOUD)
    value = form.format(f"{name}.Loud")
    loss = f"{{{value}}}" if "class_path" in form else value
    (tmp_path / "model.yaml").write_text(f"class_path: cli_toy.Toy\ninit_args: {{loss: {loss}, lr: 0.2}}")
    (tmp_path / "run.yaml").write_text(f"model: {tmp_path / 'model.yaml'}\nseed_everything: 1")
    assert fit(f"--config={tmp_path / 'run.yaml'}") == 0
    told = capsys.readouterr().err
    lines = told.splitlines()
    assert lines[:2] == [
        f"imports {path} (named in {tmp_path / 'run.yaml'})" for path in ("cli_toy.Toy", f"{name}.Loud")
    ]
    assert told.index(f"imports {name}.Loud") < told.index("it runs")


def test_what_yaml_alone_could_run_is_refused(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"):
        (tmp_path / "run.yaml").write_text(f"model: {tag} [{tmp_path / 'made'}]")
        assert fit(f"--config={tmp_path / 'run.yaml'}") == 2
        assert not (tmp_path / "made").exists()
        assert "Traceback" not in capsys.readouterr().err


def test_only_import_paths_from_outside_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "a: [torch.optim.AdamW, {b: torch.optim.AdamW, class_path: json.JSONDecoder}]\n"
        "c: [rairl_lightning.module.RAIRL, train.jsonl, 0.5, 1.5e-3, runs/x.y, no_such_package.Thing, Dense, '']\n"
        "d: builtins.eval\ne: __main__.X\n"
    )
    announce(["fit", "--config", str(file), f"--config={file}"])
    expected = ["torch.optim.AdamW", "json.JSONDecoder", "builtins.eval", "__main__.X"]
    assert capsys.readouterr().err.splitlines() == [f"imports {path} (named in {file})" for path in expected]
    monkeypatch.setenv("LOCAL_RANK", "1")
    announce(["fit", "--config", str(file)])
    assert capsys.readouterr().err == "", "the first of several processes says it"


@pytest.mark.parametrize("content", ["a: [", "&a [*a]", "[" * 5000, "\0", "a: &x [*x, json.loads]"])
def test_what_cannot_be_read_is_left_to_the_parser(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    assert list(import_paths(str(tmp_path / "a.yaml"))) in ([], ["json.loads"])


def test_yaml_on_the_command_line_is_read_too() -> None:
    assert list(import_paths("a: json.loads")) == ["json.loads"]
    assert list(import_paths(f"# {'long ' * 100}\na: json.loads")) == ["json.loads"]


def test_files_that_name_each_other_end(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text(f"[{two}, json.loads]")
    two.write_text(f"[{one}, json.dumps]")
    assert set(import_paths(str(one))) == {"json.loads", "json.dumps"}
