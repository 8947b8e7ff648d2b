"""The pages: what they link to and name is there, and they are all in the navigation."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import page_commands as pages
import pytest
import yaml

import rairl_lightning


@pytest.fixture
def hooks(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What MkDocs calls; it needs nothing that is not installed for tests."""
    monkeypatch.syspath_prepend(str(root / "docs"))
    monkeypatch.delitem(sys.modules, "hooks", raising=False)
    return import_module("hooks")


def markdown(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root / "docs")): file.read_text() for file in (root / "docs").rglob("*.md")}


def listed(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in listed(item)]


def test_every_page_is_in_the_navigation(root: Path) -> None:
    nav = listed(yaml.safe_load((root / "mkdocs.yml").read_text())["nav"])
    assert sorted(nav) == sorted(markdown(root))


def test_symbols_sections_and_layers_resolve(root: Path, hooks: ModuleType) -> None:
    for name, text in markdown(root).items():
        page = hooks.on_page_markdown(text)
        assert "<!-- include" not in page and not hooks.SYMBOL.search(page), name


def test_links_and_pictures_are_there(root: Path) -> None:
    for name, text in markdown(root).items():
        folder = (root / "docs" / name).parent
        found = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
        assert [link for link in found if link and not (folder / link).exists()] == [], name


def test_configurations_that_are_named_are_there(root: Path) -> None:
    for name, text in markdown(root).items():
        own = {step.name for step in pages.steps(text) if isinstance(step, pages.File)}
        named = set(re.findall(r"--config[ =](\S+\.yaml)|`(configs/[\w/]+\.yaml)`", text))
        missing = {one or other for one, other in named} - own
        assert [one for one in missing if not (root / one).is_file()] == [], name


def test_names_of_modules_in_the_reference_are_there(root: Path) -> None:
    for name, text in markdown(root).items():
        for path in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
            module, _, attribute = path.rpartition(".")
            if not (Path(rairl_lightning.__file__).parents[1] / path.replace(".", "/")).with_suffix(".py").is_file():
                assert hasattr(import_module(module), attribute), f"{name}: {path}"


def test_pictures_are_small(root: Path) -> None:
    assert [file.name for file in (root / "docs" / "images").iterdir() if file.stat().st_size > 200_000] == []


def test_the_picture_of_the_loop_is_well_formed_and_has_both_schemes(root: Path) -> None:
    from xml.etree import ElementTree

    text = (root / "docs" / "images" / "loop.svg").read_text()
    assert ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in text


def test_what_is_wrong_is_found(hooks: ModuleType) -> None:
    """Controls."""
    for wrong, told in (
        ("`rairl_lightning/module.py::RAIRL.training_stepp`", "defines no RAIRL.training_stepp"),
        ("`rairl_lightning/gone.py::x`", "no file"),
        ("<!-- include benchmarks/README.md#gone -->", "no section gone"),
        ("<!-- include GONE.md -->", "no file"),
    ):
        with pytest.raises(hooks.DocsError, match=told):
            hooks.on_page_markdown(wrong)


def test_a_section_ends_where_the_next_begins_and_keeps_its_code(
    hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# A\n## B c\n```sh\n# no heading\n```\n### D\n[x](y.py) [z](https://z)\n## E\n")
    assert hooks.section("a.md", "b-c") == "```sh\n# no heading\n```\n### D\nx [z](https://z)"


def test_layers_are_those_of_import_linter(root: Path, hooks: ModuleType) -> None:
    text = hooks.layers()
    package = root / "rairl_lightning"
    rooms = {file.stem for file in package.glob("*.py")} | {file.parent.name for file in package.glob("*/__init__.py")}
    assert rooms - {"__init__"} == set(re.findall(r"`(\w+)`", text))
    assert text.index("`callbacks`") < text.index("`module`") < text.index("`models`") < text.index("`errors`")


def test_docstrings_become_markdown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(str(root / "docs"))
    written = import_module("docstrings").markdown
    text = "As :func:`~a.b` says.\n\n>>> 1 + 1\n2\n\n.. code-block:: yaml\n\n    a:\n      b: 1\n\nThe end."
    assert written(text) == ("As `b` says.\n\n```pycon\n>>> 1 + 1\n2\n```\n\n```yaml\na:\n  b: 1\n```\n\nThe end.")
