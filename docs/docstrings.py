"""Docstrings as Markdown: they are written for Python's ``help``, with doctests and roles of Sphinx."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?([^`]+)`")
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
DIRECTIVE = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def markdown(text: str) -> str:
    """A docstring's text, without indentation, as Markdown."""
    text = ROLE.sub(lambda match: f"`{match.group(1).rpartition('.')[2]}`", text)
    text = DIRECTIVE.sub(_fenced, text + "\n").rstrip("\n")
    return DOCTEST.sub(lambda match: f"```pycon\n{match.group()}\n```", text)


def _fenced(match: re.Match[str]) -> str:
    block = re.sub("^    ", "", match.group(2), flags=re.MULTILINE).strip("\n")
    return f"```{match.group(1)}\n{block}\n```\n\n"


class Markdown(griffe.Extension):
    """Rewrites the docstrings that the reference shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for everything that has been read."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
