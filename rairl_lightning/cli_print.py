"""``--print_config``: what of a configuration differs from the defaults, each key with what it means."""

from __future__ import annotations

import dataclasses
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from docstring_parser import parse, parse_from_object

from rairl_lightning.cli_names import argument_defaults, argument_hints, loaded
from rairl_lightning.cli_words import FULL

WIDTH = 120
_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
_END = re.compile(r"(?<!Dr)\. ")
HEADER = f"# What differs from the defaults; {FULL} shows everything. A file of this is a --config.\n"


def commented(text: str, owners: Mapping[str, type]) -> str:
    """The parser's YAML of what differs, with the first sentence of every key's documentation behind it.

    Args:
        text: objects are mappings with ``class_path`` and ``init_args``.
        owners: classes whose arguments the groups at the top are.
    """
    config = yaml.safe_load(text) or {}
    lines = [line for key, value in config.items() for line in _entry(key, value, None, owners.get(key), 0)]
    return HEADER + "\n".join(lines) + "\n"


def _entry(key: str, value: Any, owner: type | None, inner: type | None, indent: int) -> Iterator[str]:
    """Lines of one key.

    Args:
        key: its name.
        value: plain.
        owner: the class whose argument it is.
        inner: the class whose arguments are below it, where ``value`` does not name one.
        indent: spaces before the key.
    """
    head, about = f"{' ' * indent}{key}:", _meaning(owner, key)
    if isinstance(value, Mapping) and _is_new(value, owner, key):
        value = _trimmed(value)
    if isinstance(value, Mapping) and (value.keys() - {"class_path"}):
        yield _remarked(head, about)
        yield from _mapping(value, inner, indent + 2)
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        yield _remarked(head, about)
        for one in value:
            first, *rest = (
                _mapping(_trimmed(one), None, indent + 2) if isinstance(one, Mapping) else [f"  {_flow(one)}"]
            )
            yield from (f"{' ' * indent}- {first.lstrip()}", *rest)
    elif isinstance(value, str) and "\n" in value and value == value.strip():
        yield _remarked(f"{head} |-", about)
        yield textwrap.indent(value, " " * (indent + 2))
    else:
        yield _remarked(f"{head} {_flow(value)}", about)


def _mapping(value: Mapping[str, Any], owner: type | None, indent: int) -> Iterator[str]:
    for key, item in value.items():
        if key == "class_path":
            yield _remarked(f"{' ' * indent}class_path: {item}", _summary(loaded(item)))
        else:
            inner = loaded(str(value.get("class_path"))) if key == "init_args" else _group(owner, key)
            yield from _entry(key, item, owner, inner, indent)


def _is_new(item: Mapping[str, Any], owner: type | None, key: str) -> bool:
    """Whether an object is of a class that nothing is there of by default, whose arguments it would inherit."""
    named = loaded(str(item.get("class_path")))
    default = argument_defaults(owner).get(key) if owner is not None else None
    return named is not None and owner is not None and default is None


def _trimmed(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object without the arguments that are as its class has them by default; the parser keeps those."""
    owner = loaded(str(item.get("class_path")))
    defaults = argument_defaults(owner) if owner is not None else {}
    kept = {key: one for key, one in (item.get("init_args") or {}).items() if (key, one) not in defaults.items()}
    return {**{key: one for key, one in item.items() if key != "init_args"}, **({"init_args": kept} if kept else {})}


def _group(owner: type | None, key: str) -> type | None:
    """The dataclass whose fields are below a key."""
    hint = argument_hints(owner).get(key) if owner is not None else None
    options = (one for one in (hint, *typing.get_args(hint)) if isinstance(one, type))
    return next((one for one in options if dataclasses.is_dataclass(one)), None)


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _remarked(line: str, about: str) -> str:
    room = max(24, WIDTH - len(line) - 4)
    return f"{line}  # {textwrap.shorten(about, room, placeholder=' …', break_on_hyphens=False)}" if about else line


@cache
def _meanings(owner: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in owner.__mro__:
        fields = dataclasses.is_dataclass(base)  # which are documented below each
        texts = [parse_from_object(base) if fields else parse(base.__doc__ or "")]
        texts.append(parse(base.__init__.__doc__ or ""))  # type: ignore[misc]
        for one in (one for text in texts for one in text.params):
            found.setdefault(one.arg_name, one.description or "")
    return found


def _meaning(owner: type | None, key: str) -> str:
    return _sentence(_meanings(owner).get(key, "")) if owner is not None else ""


def _summary(owner: type | None) -> str:
    return _sentence(owner.__doc__ or "") if owner is not None else ""


def _sentence(text: str) -> str:
    """The first one, in one line and without marks of code."""
    line = _ROLE.sub(r"\1", " ".join(text.split("\n\n")[0].split())).replace("`", "")
    return _END.split(line)[0].removesuffix(".")
