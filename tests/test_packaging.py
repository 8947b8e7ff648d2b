"""What an installation must bring."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

import rairl_lightning
from rairl_lightning.cli import main


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """The ``project`` table of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[<>=!;~ ]", requirement)[0].lower().replace("_", "-")


def test_version_is_said_once(project: dict[str, Any]) -> None:
    assert project["dynamic"] == ["version"] and "version" not in project
    assert version("rairl-lightning") == rairl_lightning.__version__


def test_version_is_in_the_change_log(root: Path) -> None:
    assert f"## [{rairl_lightning.__version__}]" in (root / "CHANGELOG.md").read_text()


def test_citation_names_the_version(root: Path) -> None:
    assert f"\nversion: {rairl_lightning.__version__}\n" in (root / "CITATION.cff").read_text()


def test_types_are_shipped() -> None:
    assert (Path(rairl_lightning.__file__).parent / "py.typed").is_file()


def test_console_script_is_main() -> None:
    (script,) = entry_points(group="console_scripts", name="rairl")
    assert script.load() is main


NEVER_RUN = {"vllm"}
"""What no version of was ever run here, so that there is none to pin."""


def test_every_dependency_is_pinned(root: Path, project: dict[str, Any]) -> None:
    pinned = {requirement_name(line) for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {requirement_name(line) for line in wanted}
    assert names - pinned == NEVER_RUN


def test_constraints_are_exact_and_name_no_machine(root: Path) -> None:
    for line in (root / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


BUILD = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
"""What is not in the lock: which build it is, the machine decides."""


def test_the_lock_has_the_constraints_with_their_hashes(root: Path, project: dict[str, Any]) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (root / "requirements.lock").read_text())[1:]
    locked = dict(re.match(r"([a-z0-9.-]+)==([^\s;]+)", entry).groups() for entry in entries)  # type: ignore[union-attr]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = {requirement_name(line): line.split("==")[1] for line in lines if "==" in line}
    shared = locked.keys() & pinned.keys()
    assert {name: locked[name] for name in shared} == {name: pinned[name] for name in shared}, "run `make lock`"
    wanted = {requirement_name(line) for line in (*project["dependencies"], *project["optional-dependencies"]["dev"])}
    assert wanted - locked.keys() == {"torch"} and not any(BUILD.fullmatch(name) for name in locked)


def test_the_audit_says_what_it_could_not_check(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = runpy.run_path(str(root / ".ci" / "audit.py"))["report"]
    unknown = {"name": "b", "skip_reason": "not found"}
    assert report([unknown]) == 0 and "NOTHING was checked" in capsys.readouterr().out
    assert report([{"name": "a", "version": "1", "vulns": []}, unknown]) == 0
    assert "1 that could not be checked" in capsys.readouterr().out
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    assert report([bad, unknown]) == 1 and "c 2: PYSEC-1, mended in 3" in capsys.readouterr().out


def test_compromised_lightning_is_excluded(project: dict[str, Any]) -> None:
    """PyPI's 2.6.2 and 2.6.3 stole credentials on import."""
    assert "lightning>=2.6.4" in project["dependencies"]


def test_every_room_is_a_package() -> None:
    """A folder without ``__init__.py`` is seen neither by import-linter nor by doctest."""
    package = Path(rairl_lightning.__file__).parent
    folders = {file.parent for file in package.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


# --- The wheel ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this tree, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={out}"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", *options, root], check=True, timeout=100)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=100)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, timeout=100)
    return folder


def in_clean(clean: Path, *command: str, path: str = "") -> str:
    """What a command says there, away from the sources."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"PYTHONPATH": path} if path else {}
    program = [clean / "bin" / command[0], *command[1:]]
    return subprocess.run(
        program, cwd=clean, env=environment, check=True, capture_output=True, text=True, timeout=500
    ).stdout


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(root: Path, wheel: Path) -> None:
    package = root / "rairl_lightning"
    files = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    wanted = {file.relative_to(root).as_posix() for file in files}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == wanted
    kinds = {
        "assets/dials/model.safetensors",
        "reporting/templates/page.css",
        "exporting/templates/card.md.j2",
        "py.typed",
    }
    assert {f"rairl_lightning/{name}" for name in kinds} <= packed, "what is no Python is there at all"


@pytest.mark.slow
def test_the_wheel_helps_where_nothing_else_is_installed(clean: Path) -> None:
    assert "rairl fit --config" in in_clean(clean, "rairl", "--help")
    versions = in_clean(clean, "rairl", "--version")
    assert f"rairl_lightning {rairl_lightning.__version__}\n" in versions and "torch is not installed" in versions


@pytest.mark.slow
def test_the_wheel_loads_its_model_and_templates_without_the_sources(clean: Path) -> None:
    code = """
import rairl_lightning
from rairl_lightning.exporting.card import _environment as card
from rairl_lightning.models import BackboneSpec
from rairl_lightning.models.loading import load_backbone
from rairl_lightning.reporting.page import _environment as page
load_backbone(BackboneSpec("builtin:dials")), card().get_template("card.md.j2"), page().get_template("page.html.j2")
print(rairl_lightning.__file__)
"""
    # As a path, site-packages brings the dependencies, and not the editable installation, which needs its .pth file.
    found = in_clean(clean, "python", "-c", code, path=sysconfig.get_path("purelib"))
    assert Path(found.splitlines()[-1]).is_relative_to(clean)
