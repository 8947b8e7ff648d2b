"""The paper index: symbols, tests and constants are what they are said to be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from reference.registry import REDUCTIONS, REFERENCES

SYMBOL = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)
# On lines of the paper: keys whose value is ours, or is in the sentence below the table.
BESIDES = {"alpha", "top_p", "max_rows", "questions", "samples", "interval", "every_n_rounds"}
NAMED = {name: test for table in (REFERENCES, REDUCTIONS) for test, names in table.items() for name in names.split()}


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "paper_index.md").read_text()


def cells(page: str, heading: str) -> list[list[str]]:
    part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in row.split(" | ")] for row in ROW.findall(part)][1:]


def wrong_tests(rows: list[list[str]]) -> list[str]:
    """Rows whose test is not the one that holds their symbol to its equation."""
    found = []
    for *_, code, test in rows:
        (_, symbol), (file, name) = SYMBOL.findall(code)[0], SYMBOL.findall(test)[0]
        if f"tests/{NAMED.get(symbol)}" != f"{file}::{name}":
            found.append(symbol)
    return found


def test_every_equation_has_its_registered_test(page: str) -> None:
    rows = cells(page, "Equations")
    assert len(rows) > 20 and wrong_tests(rows) == []
    other = [[*row[:-1], rows[0][-1]] for row in rows]
    assert len(wrong_tests(other)) > 20, "control"


def at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def differing(rows: list[list[str]], config: Any) -> list[str]:
    keys = {key.strip("`"): value for _, value, key in rows}
    return [key for key, value in keys.items() if at(config, key) != yaml.safe_load(value)]


def marked(text: str) -> set[str]:
    """Keys of the values that a comment gives to the paper; not of classes, which are in the table of equations."""
    lines = [line.partition("#") for line in text.splitlines()]
    pairs = [pair for code, _, said in lines if "paper" in said for pair in re.findall(r"(\w+): ([^{},\[\]]+)", code)]
    return {key for key, value in pairs if "rairl_lightning" not in value} - BESIDES


def test_constants_are_those_of_the_configuration(page: str, root: Path) -> None:
    text = (root / "configs" / "gsm8k.yaml").read_text()
    rows, config = cells(page, "Constants"), yaml.safe_load(text)
    assert differing(rows, config) == []
    assert differing([["x", "3", "`model.init_args.group_size`"]], config) == ["model.init_args.group_size"], "control"
    said = {key.strip("`").rpartition(".")[2] for _, _, key in rows}
    assert marked(text) - said == set()
    assert "epsilon" in marked(text) and "sft" not in marked(text)
