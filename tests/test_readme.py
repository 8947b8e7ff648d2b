"""What the pages for readers name is there: links, headings, configurations, classes, targets of make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = re.compile(r"--config[ =](\S+)|`(configs/[^`\s]+\.yaml)`")
TARGET = re.compile(r"^(?:\$ )?make (\w+)", re.MULTILINE)


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(text) if language in languages]


def headings(text: str) -> set[str]:
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(text: str, folder: Path) -> list[str]:
    found = []
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = folder / name
        known = headings(text if not name else target.read_text()) if heading and target.exists() else {heading}
        if not target.exists() or heading not in known:
            found.append(link)
    return found


def missing_configs(text: str, root: Path) -> list[str]:
    """Configurations of commands and tables; one that the page itself writes, by its first line, is there."""
    written = set(re.findall(r"^```yaml\n# (\S+\.yaml):", text, re.MULTILINE))
    named = [first or second for first, second in CONFIG.findall(re.sub(r"\\\n\s*", "", text))]
    return [name for name in named if name != "…" and name not in written and not (root / name).is_file()]


def class_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [str(value["class_path"])] if "class_path" in value else []
        for item in value.values():
            yield from class_paths(item)


def missing_classes(block: str) -> list[str]:
    split = [path.rpartition(".") for path in class_paths(yaml.safe_load(block))]
    return [name for module, _, name in split if not hasattr(import_module(module), name)]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_configurations_are_there(root: Path, page: str) -> None:
    text = (root / page).read_text()
    assert broken_links(text, (root / page).parent) == []
    assert missing_configs(text, root) == []
    assert "../shared" not in "".join(blocks(text, "sh", "console", "yaml")), "a folder of one workplace"


def test_yaml_of_the_readme_parses_and_names_classes(root: Path) -> None:
    written = blocks((root / "README.md").read_text(), "yaml")
    assert written
    assert all(isinstance(yaml.safe_load(block), dict) for block in written)
    assert [missing_classes(block) for block in written] == [[]] * len(written)
    assert any(list(class_paths(yaml.safe_load(block))) for block in written)


def test_targets_of_make_are_there(root: Path) -> None:
    named = {target for page in PAGES for target in TARGET.findall((root / page).read_text())}
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert {"quickstart", "test"} <= named <= targets


def test_what_is_wrong_is_found(root: Path, tmp_path: Path) -> None:
    """Controls of the gates."""
    (tmp_path / "other.md").write_text("## Who `knows` it?\n")
    links = "# Here\n[z](#here) [y](#there) [a](other.md) [b](gone.md) [c](other.md#who-knows-it) [d](other.md#nobody) [e](https://gone.example)"
    assert broken_links(links, tmp_path) == ["#there", "gone.md", "other.md#nobody"]
    commands = "rairl fit --config configs/gsm8k.yaml \\\n    --config configs/gone.yaml\nor `configs/away.yaml`\n"
    assert missing_configs(commands, root) == ["configs/gone.yaml", "configs/away.yaml"]
    own = "rairl fit --config own.yaml\n"
    assert missing_configs(own, root) == ["own.yaml"]
    assert missing_configs(f"```yaml\n# own.yaml: mine\na: 1\n```\n{own}", root) == []
    block = "a: {class_path: rairl_lightning.components.Step}\nb: {class_path: rairl_lightning.components.Stepp}\n"
    assert missing_classes(block) == ["Stepp"]
    readme = (root / "README.md").read_text()
    assert len(missing_configs(readme, tmp_path)) > 8 and len(broken_links(readme, tmp_path)) > 8, "they are read"
