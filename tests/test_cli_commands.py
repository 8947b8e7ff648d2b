"""The commands beside Lightning's: their options, their help, and what a wrong one is told."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cli_uses
import pytest

from rairl_lightning.cli import guarded, main
from rairl_lightning.cli_commands import launch, parsed
from rairl_lightning.cli_parser import launch as launch_training  # here: Lightning logs to the stderr it is born with
from rairl_lightning.commands import COMMANDS
from rairl_lightning.commands.output import OutputFolder
from rairl_lightning.components import Dense, Interval, Minimum, TokenWeighted
from rairl_lightning.data.traces import TraceFile
from rairl_lightning.errors import ConfigError

Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read() -> Read:
    """Parse and call; the arguments the function got."""

    def run(*args: str) -> dict[str, Any]:
        cli_uses.read_traces(**parsed(cli_uses.read_traces, args))
        return cli_uses.CALLS.pop()

    return run


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the toy among the commands."""
    monkeypatch.setitem(COMMANDS, "read_traces", "read traces")
    monkeypatch.setitem(sys.modules, "rairl_lightning.commands.read_traces", cli_uses)
    yield
    cli_uses.CALLS.clear()


def test_defaults_and_short_names(read: Read) -> None:
    given = read("--reward", "runs/x")
    assert given["reward"] == "runs/x" and given["traces"] is None and given["out"] == Path("runs/read")
    assert given["pooling"] == TokenWeighted() and given["granularity"] == Interval(5)
    given = read("--reward=r", "--pooling=Minimum", "--granularity=Dense", '--plugins=["a","b"]', "--overwrite=true")
    assert (given["pooling"], given["granularity"]) == (Minimum(), Dense())
    assert given["plugins"] == ("a", "b") and given["overwrite"] is True
    assert read("--reward=r", "--granularity=Interval", "--granularity.every=7")["granularity"] == Interval(7)


def test_a_switch_needs_no_value(read: Read) -> None:
    assert read("--reward=r", "--overwrite")["overwrite"] is True
    assert read("--overwrite", "--reward=r")["overwrite"] is True
    assert read("--reward=r", "--overwrite", "false", "--limit", "3")["overwrite"] is False
    assert read("--reward=r", "--limit", "3")["overwrite"] is False


def test_files_are_merged_and_options_win(read: Read, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("reward: a\nlimit: 3\npooling: {class_path: Minimum}\n")
    (tmp_path / "b.yaml").write_text("limit: 4\n")
    given = read(f"--config={tmp_path}/a.yaml", f"--config={tmp_path}/b.yaml", "--reward=c")
    assert (given["reward"], given["limit"], given["pooling"]) == ("c", 4, Minimum())


def test_print_config_says_what_would_run_and_comes_back(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(
            cli_uses.read_traces, ["--reward=r", "--granularity=Interval", "--granularity.every=7", "--print_config"]
        )
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert read(f"--config={tmp_path}/printed.yaml")["granularity"] == Interval(7)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "rairl read_traces --help"),
        (["--reward=r", "--limitt=1"], "did you mean 'limit'?"),
        (["--reward=r", "--limit=many"], "expected: int\n  got:      many"),
        (["--reward=r", "--pooling=Minimun"], "did you mean 'rairl_lightning.components.Minimum'?"),
        (["--reward=r", "--granularity=Minimum"], "granularity does not take a Minimum"),
        (["--reward=r", "--granularity=Interval", "--granularity.evry=3"], "did you mean 'granularity.every'?"),
        (["--reward=r", "--granularity=Interval", "--granularity.every=0"], "every"),
        (["--reward=r", "--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_is_wrong_is_one_message(
    installed: None, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert main(["read_traces", *args]) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert told in err and "usage:" not in err and "Traceback" not in err
    assert cli_uses.CALLS == []


def test_main_runs_it(installed: None) -> None:
    assert main(["read_traces", "--reward=r"]) == 0
    assert cli_uses.CALLS[0]["reward"] == "r"


def test_a_misspelt_command_is_told_the_nearest(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: launch_training(["read_trace"])) == ConfigError.exit_code
    assert "did you mean 'read_traces'?" in capsys.readouterr().err


def test_help_teaches(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: launch("read_traces", ["--help"])) == 0
    out = capsys.readouterr().out
    assert "  rairl read_traces --reward runs/quickstart\n    --limit 3\n" in out, "the example keeps its lines"
    assert "traces to read, >= 1" in out and "--print_config" in out and "Args:" not in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_that_explains_its_options(name: str) -> None:
    module = import_module(f"rairl_lightning.commands.{name}")
    function = getattr(module, name)
    described = inspect.getdoc(function)
    assert described and "Example" in described
    assert all(f"{option}:" in described for option in inspect.signature(function).parameters)
    assert "from __future__" in inspect.getsource(module)


def test_help_of_a_command_loads_no_models() -> None:
    """In one process for all of them: what one loads stays loaded, and is said behind its own name."""
    code = """
import sys
from rairl_lightning.cli import main
for name in sys.argv[1:]:
    main([name, "--help"])
    print("loaded by", name, sorted({"lightning", "transformers", "peft", "datasets"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, timeout=100)
    assert all(f"rairl {name}" in done.stdout for name in COMMANDS), done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("loaded by")]
    assert told == [f"loaded by {name} []" for name in COMMANDS]


@pytest.mark.parametrize("file", ["samples.jsonl", "a/b.csv", "./my samples.jsonl.gz"])
def test_a_file_for_a_class_names_the_class(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--reward=r", f"--traces={file}"]) == ConfigError.exit_code
    assert f"--traces TraceFile --traces.path {file}" in capsys.readouterr().err
    assert main(["localise", "--reward=r", f"--steps={file}"]) == ConfigError.exit_code
    assert f"--steps ProcessSteps --steps.path {file}" in capsys.readouterr().err
    assert main(["localise", "--reward=r", f"--data={file}"]) == ConfigError.exit_code
    assert f"--data JsonLines --data.test {file}" in capsys.readouterr().err


# --- Where a command writes ---------------------------------------------------------------------------------------


def test_an_earlier_result_is_not_overwritten(tmp_path: Path) -> None:
    out = OutputFolder(tmp_path / "a" / "b", ("summary.json",)).prepare()
    (out / "summary.json").write_text("1")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"--overwrite true"):
        OutputFolder(out, ("summary.json", "x")).prepare()
    OutputFolder(out, ("summary.json", "x")).prepare(continues=True)
    OutputFolder(out, ("summary.json", "x")).clear()
    assert (out / "summary.json").read_text() == "1"
    OutputFolder(out, ("other.json",)).prepare()
    (out / "x").write_text("2")
    output = OutputFolder(out, ("summary.json", "x"), overwrite=True)
    output.prepare()
    assert (out / "summary.json").read_text() == "1", "not before all else was checked"
    output.clear(keep=["x"])
    assert not (out / "summary.json").exists() and (out / "notes.txt").read_text() == "mine"
    assert (out / "x").read_text() == "2"


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(ConfigError, match="which is a file"):
            OutputFolder(path, (), overwrite=True).prepare()


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_text("{}")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "traces.jsonl")
    output = OutputFolder(tmp_path, ("traces.jsonl", "new.json"), overwrite=True)
    for given in ("traces.jsonl", "link.jsonl", "", "../" + tmp_path.name):
        with pytest.raises(ConfigError, match="what it reads"):
            output.prepare(None, TraceFile(str(tmp_path / given)))
    output.prepare(TraceFile(str(tmp_path / "other.jsonl"), meta=("\0", "x" * 5000)), "new.json")
