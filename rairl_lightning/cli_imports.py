"""What a configuration file makes Python import from outside of the package: said before it happens."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from rairl_lightning.text.visible import visible

OURS = "rairl_lightning"
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_YAML = (".yaml", ".yml")
_CONFIG = ("--config", "-c")
_OTHER_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def announce(args: Sequence[str]) -> None:
    """Print a line to stderr for every import path outside of the package in the files that ``args`` name.

    To import a module is to run it, so that this comes before anything is parsed. Whatever reads like an import path
    and starts with the name of a package that is installed counts, under whichever key it stands.

    Args:
        args: the command line without the program's name.
    """
    if any(os.environ.get(name, "0") != "0" for name in _OTHER_RANKS):
        return
    told: set[str] = set()
    for file in config_files(args):
        for path in import_paths(file):
            if path not in told:
                told.add(path)
                print(visible(f"imports {path} (named in {file})"), file=sys.stderr, flush=True)


def config_files(args: Sequence[str]) -> Iterator[str]:
    """Values of ``--config``, and all others that are a YAML file, in order.

    >>> list(config_files(["fit", "--config", "a.yaml", "--config=b.json", "--model.rounds=3"]))
    ['a.yaml', 'b.json']
    """
    for place, argument in enumerate(args):
        name, given, value = argument.partition("=")
        value = value if given else next(iter(args[place + 1 : place + 2]), "")
        if name in _CONFIG or (name.startswith("-") and _is_yaml_file(value)):
            yield value


def import_paths(file: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Import paths from outside of the package in a YAML file and in those that it names.

    Args:
        file: path, or YAML itself, which ``--config`` takes too. What cannot be read is left to the parser to refuse.
        seen: files on the way here.
    """
    try:
        content = yaml.safe_load(_text(file))
    except (RecursionError, ValueError, yaml.YAMLError):
        return
    for value in _texts(content):
        if _is_import_path(value):
            yield value
        elif value not in seen and _is_yaml_file(value) and content != value:
            yield from import_paths(value, seen | {value, file})


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):  # no file: YAML itself
        return file


def _texts(content: Any) -> Iterator[str]:
    """All texts in lists and mappings, in order; a list may hold itself."""
    waiting, met = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list) and id(value) not in met:
            met.add(id(value))
            waiting += reversed(list(value.values()) if isinstance(value, dict) else value)


def _is_import_path(text: str) -> bool:
    root = text.partition(".")[0]
    if not _IMPORT_PATH.fullmatch(text) or root == OURS:
        return False
    try:
        return find_spec(root) is not None
    except (ImportError, ValueError):  # a package that is loaded and has no specification, as __main__
        return True


def _is_yaml_file(text: str) -> bool:
    try:
        return text.endswith(_YAML) and Path(text).is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a zero byte
        return False
