"""What an installation must bring."""

import re
import tomllib
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


def test_every_dependency_is_pinned(root: Path, project: dict[str, Any]) -> None:
    pinned = {requirement_name(line) for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    assert {requirement_name(line) for line in wanted} <= pinned


def test_constraints_are_exact_and_name_no_machine(root: Path) -> None:
    for line in (root / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_compromised_lightning_is_excluded(project: dict[str, Any]) -> None:
    """PyPI's 2.6.2 and 2.6.3 stole credentials on import."""
    assert "lightning>=2.6.4" in project["dependencies"]


def test_every_room_is_a_package() -> None:
    """A folder without ``__init__.py`` is seen neither by import-linter nor by doctest."""
    package = Path(rairl_lightning.__file__).parent
    folders = {file.parent for file in package.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
