"""The arrows between rooms, and proof that the check would notice a wrong one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("lightning", "transformers", "peft", "bitsandbytes", "datasets", "jsonargparse")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([linter, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The package alone, elsewhere."""
    shutil.copytree(
        root / "rairl_lightning", tmp_path / "rairl_lightning", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def test_arrows_point_one_way(root: Path) -> None:
    report = lint_imports(root)
    assert report.returncode == 0, report.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("functional/masking.py", "import rairl_lightning.components", "Arrows point one way"),
        ("functional/masking.py", "import transformers", "functional is torch and the standard library"),
        ("text/steps.py", "import torch", "text knows strings only"),
        ("text/steps.py", "import rairl_lightning.types", "text knows strings only"),
        ("data/rollout_buffer.py", "import transformers", "Only models knows transformers"),
        ("module.py", "import rairl_lightning.data.datamodule", "Algorithms know no data set"),
    ],
)
def test_planted_arrow_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    file = copy / "rairl_lightning" / module
    file.write_text(f"{file.read_text()}\n{line}\n")
    report = lint_imports(copy)
    assert report.returncode == 1
    broken = [entry for entry in report.stdout.splitlines() if entry.endswith("BROKEN")]
    assert any(entry.startswith(contract) for entry in broken), report.stdout


def test_undeclared_room_is_noticed(copy: Path) -> None:
    (copy / "rairl_lightning" / "utils.py").write_text('"""Everything else."""\n')
    report = lint_imports(copy)
    assert report.returncode == 1 and "utils" in report.stdout


LOADED_BY = """
import importlib, json, pkgutil, sys
*rooms, watched = map(json.loads, sys.argv[1:])
loaded = {}
for name in rooms:
    room = importlib.import_module(name)
    if name != "rairl_lightning" and hasattr(room, "__path__"):
        for item in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
            importlib.import_module(item.name)
    loaded[name] = sorted(set(watched) & set(sys.modules))
print(json.dumps(loaded))
"""


def test_importing_a_room_loads_only_its_own() -> None:
    """In one process, the lightest room first: what one loads stays loaded."""
    unwanted = {
        "rairl_lightning": {"torch", "numpy", *HEAVY},
        "rairl_lightning.errors": {"torch", "numpy", *HEAVY},
        "rairl_lightning.text": {"torch", *HEAVY},
        "rairl_lightning.functional": {*HEAVY},
        "rairl_lightning.types": {*HEAVY},
    }
    control, watched = "rairl_lightning.cli_commands", ["torch", "numpy", *HEAVY]
    given = map(json.dumps, (*unwanted, control, watched))
    result = subprocess.run([sys.executable, "-c", LOADED_BY, *given], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout)
    assert [room for room, names in unwanted.items() if names & set(loaded[room])] == []
    assert "jsonargparse" in loaded[control], "a heavy import is seen where there is one"


def test_lint_rules_are_live(copy: Path) -> None:
    """Complexity and length are really selected: a planted function breaks both."""
    branches = "".join(f"    if x == {number}:\n        x += {number}\n" for number in range(60))
    (copy / "rairl_lightning" / "planted.py").write_text(f'"""Planted."""\n\n\ndef f(x):\n    """F."""\n{branches}')
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", "--no-cache", "--output-format=concise", "rairl_lightning/planted.py"]
    out = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=60).stdout
    assert "C901" in out and "PLR0915" in out and "PLR0912" in out
