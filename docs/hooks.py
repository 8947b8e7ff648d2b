"""What MkDocs does not do by itself: lines of symbols, sections of other files, the arrows between rooms.

``<!-- include FILE#heading -->``
    becomes the section of that file, without its heading; its links, which are relative to another folder, become text.
``<!-- layers -->``, ``<!-- contracts -->``
    become the arrows between rooms, and what is forbidden besides, as import-linter reads them in ``pyproject.toml``.
```` `file.py::symbol` ````
    gets the line at which the symbol is defined, and the link to its page of the reference if there is one.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r"^<!-- include (\S+?)(?:#(\S+))? -->$", re.MULTILINE)
SYMBOL = re.compile(r"`([\w/.-]+\.py)::(\w+(?:\.\w+)*)`")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)[^)]+\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


class DocsError(ValueError):
    """A page names what is not there."""


@cache
def definitions(file: str) -> dict[str, int]:
    """Line of every function, class and constant of a file, methods and fields as ``Class.name``.

    Raises:
        DocsError: there is no such file.
    """
    path = ROOT / file
    if not path.is_file():
        raise DocsError(f"there is no file {file}")
    return dict(_defined(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _defined(body: list[ast.stmt], prefix: str) -> list[tuple[str, int]]:
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append((prefix + node.name, node.lineno))
        if isinstance(node, ast.ClassDef):
            found += _defined(node.body, f"{prefix}{node.name}.")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [(prefix + one.id, node.lineno) for one in targets if isinstance(one, ast.Name)]
    return found


def line_of(file: str, symbol: str) -> int:
    """Line at which a symbol is defined, from 1.

    Raises:
        DocsError: the file has no such symbol.
    """
    lines = definitions(file)
    if symbol not in lines:
        raise DocsError(f"{file} defines no {symbol}")
    return lines[symbol]


def anchors(text: str) -> dict[str, tuple[int, int, int]]:
    """Level, start and end of the body of every section, by the anchor of its heading."""
    plain = re.sub(r"^```.*?^```$", lambda block: "\0" * len(block.group()), text, flags=re.MULTILINE | re.DOTALL)
    found = list(HEADING.finditer(plain))
    out = {}
    for place, heading in enumerate(found):
        level = len(heading.group(1))
        after = (one.start() for one in found[place + 1 :] if len(one.group(1)) <= level)
        name = re.sub(r"[^\w\- ]", "", heading.group(2).lower()).replace(" ", "-")
        out[name] = (level, heading.end(), next(after, len(text)))
    return out


def section(file: str, anchor: str | None) -> str:
    """A file without its title, or one section of it without its heading; links of other folders become text.

    Raises:
        DocsError: there is no such file or section.
    """
    path = ROOT / file
    if not path.is_file():
        raise DocsError(f"there is no file {file}")
    text = path.read_text(encoding="utf-8")
    sections = anchors(text)
    if anchor is None:
        anchor = next(iter(sections))
    if anchor not in sections:
        raise DocsError(f"{file} has no section {anchor}; it has {', '.join(sections)}")
    _, start, end = sections[anchor]
    return LINK.sub(r"\1", text[start:end]).strip()


def _contracts() -> list[dict[str, Any]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def layers() -> str:
    """The layers, the highest first, a line each."""
    (contract,) = (one for one in _contracts() if one["type"] == "layers")
    said = [re.sub(r"[()]", "", line).replace(" : ", " and ").replace(" | ", ", ") for line in contract["layers"]]
    named = [re.sub(r"(?!and\b)\b\w+", r"`\g<0>`", line) for line in said]
    return "\n".join(f"{place}. {line}" for place, line in enumerate(named, 1))


def contracts() -> str:
    """What is forbidden beside the layers, a line each."""
    found = [one for one in _contracts() if one["type"] == "forbidden"]
    return "\n".join(f"- {one['name']}: not {', '.join(f'`{name}`' for name in one['forbidden_modules'])}"
                     for one in found)  # fmt: skip


def with_line(match: re.Match[str]) -> str:
    """A symbol with its line, as a link to the reference where that may be."""
    file, symbol = match.groups()
    name, place = f"<code>{symbol}</code>", f"<small>{file}:{line_of(file, symbol)}</small>"
    if file.startswith("rairl_lightning/"):
        dotted = f"{file.removesuffix('.py').replace('/', '.')}.{symbol}"
        name = f'<autoref identifier="{dotted}" optional>{name}</autoref>'
    return f"{name} {place}"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs before a page is rendered."""
    included = INCLUDE.sub(lambda match: section(match.group(1), match.group(2)), markdown)
    listed = included.replace("<!-- layers -->", layers()).replace("<!-- contracts -->", contracts())
    return SYMBOL.sub(with_line, listed)
