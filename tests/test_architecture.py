"""The arrows between rooms, and proof that the check would notice a wrong one."""

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


@pytest.mark.parametrize(
    ("room", "unwanted"),
    [
        ("rairl_lightning", ("torch", "numpy", *HEAVY)),
        ("rairl_lightning.errors", ("torch", "numpy", *HEAVY)),
        ("rairl_lightning.text", ("torch", *HEAVY)),
        ("rairl_lightning.functional", HEAVY),
        ("rairl_lightning.types", HEAVY),
    ],
)
def test_importing_a_room_loads_only_its_own(room: str, unwanted: tuple[str, ...]) -> None:
    walk = f"""
import importlib, pkgutil, sys
room = importlib.import_module({room!r})
if {room!r} != "rairl_lightning" and hasattr(room, "__path__"):
    for item in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(item.name)
print(sorted(set({unwanted!r}) & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", walk], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr or result.stdout


def test_sys_modules_check_is_live() -> None:
    """The check above sees a heavy import where there is one."""
    code = "import sys, rairl_lightning.data.datamodule; print('lightning' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "True\n", result.stderr


def test_lint_rules_are_live(copy: Path) -> None:
    """Complexity and length are really selected: a planted function breaks both."""
    branches = "".join(f"    if x == {number}:\n        x += {number}\n" for number in range(60))
    (copy / "rairl_lightning" / "planted.py").write_text(f'"""Planted."""\n\n\ndef f(x):\n    """F."""\n{branches}')
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", "--no-cache", "--output-format=concise", "rairl_lightning/planted.py"]
    out = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=60).stdout
    assert "C901" in out and "PLR0915" in out and "PLR0912" in out
