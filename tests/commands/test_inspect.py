"""``rairl inspect`` from a command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import traces
from traces import completion

from rairl_lightning.cli import main
from rairl_lightning.errors import ConfigError, DataError

Look = Callable[..., str]


@pytest.fixture
def source(tmp_path: Path) -> list[str]:
    lines = [[3, "one", "two"], [1, "three"], [3, "four"]]
    path = tmp_path / "traces.txt"
    path.write_text("\n".join("\t".join(map(str, line)) for line in lines))
    return [f"--traces={traces.Listed.__module__}.Listed", f"--traces.path={path}"]


@pytest.fixture
def look(run: Path, capsys: pytest.CaptureFixture[str]) -> Look:
    def command(*args: str, code: int = 0) -> str:
        assert main(["inspect", f"--reward={run}", "--device=cpu", "--plain=true", *args]) == code
        streams = capsys.readouterr()
        return streams.err if code else streams.out

    return command


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ([], "one"),
        (["--row=3"], "three"),
        (["--id=gate-1"], "three"),
        (["--id=gate-3", "--sample=2"], "two"),
        (["--id=gate-3", "--sample=3"], "four"),
    ],
)
def test_a_trace_is_chosen(look: Look, source: list[str], args: list[str], shown: str) -> None:
    out = look(*source, *args)
    words = [line for line in out.splitlines() if "⟨" in line]
    assert "".join(c for c in "".join(words) if c.isalpha()).startswith(shown)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--row=5"], DataError.exit_code, "1 to 4"),
        (["--row=0"], ConfigError.exit_code, "row is out of range"),
        (["--id=gate-3", "--sample=4"], DataError.exit_code, "1 to 3"),
        (["--id=gate-33"], DataError.exit_code, "did you mean 'gate-3'?"),
        (["--id=gate-3", "--row=1"], ConfigError.exit_code, "one of them"),
    ],
)
def test_a_trace_that_is_not_there(look: Look, source: list[str], args: list[str], code: int, told: str) -> None:
    assert told in look(*source, *args, code=code)


def test_a_trace_may_be_given_in_words(look: Look, tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    out = look("--prompt=gate 3", f"--completion={completion(1)}", "--table=true", f"--html={page}")
    assert "answer left, unknown" in out and "completion" in out
    assert "<script" not in page.read_text() and "gate 3" in page.read_text()
    assert "there already" in look("--prompt=gate 3", "--completion=x", f"--html={page}", code=ConfigError.exit_code)
    assert "--prompt and --completion" in look("--prompt=gate 3", code=ConfigError.exit_code)
