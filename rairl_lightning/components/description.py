"""Frozen dataclasses as plain values, and back: how a saved reward says what it was made of.

``{"class_path": "rairl_lightning.components.Interval", "init_args": {"every": 15}}``, recursively, as in our YAML. A
description comes from a file, which may be anybody's: it names classes, and nothing outside of the packages that the
caller allows is imported, built or called because of it.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar, cast

from rairl_lightning.errors import CheckpointError, ConfigError

STATE_KEY = "rairl"
"""Where a checkpoint holds what is ours."""
REWARD_FILE = "reward.json"
"""What an exported folder says of its reward."""
FORMAT = 1
"""Of what both hold under ``artefact``."""
OURS = "rairl_lightning"

T = TypeVar("T")
_PLAIN = (str, bool, int, float, type(None))


def described(value: object) -> Any:
    """Plain values from which :func:`built` makes an equal object.

    An object whose ``portable()`` gives another one is described by that: a path may depend on the current folder.

    Args:
        value: a frozen dataclass whose fields are such dataclasses, numbers, text, None, or lists of these.

    Raises:
        ConfigError: anything else.

    >>> from rairl_lightning.components import Interval
    >>> described(Interval(5))
    {'class_path': 'rairl_lightning.components.Interval', 'init_args': {'every': 5}}
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ConfigError(
            f"{type(value).__name__} cannot be described by plain values.",
            expected="a frozen dataclass of dataclasses, numbers and text",
            got=repr(value)[:80],
            remedy="make it a frozen dataclass, so that its reward can be loaded without the configuration",
        )
    value = value.portable() if hasattr(value, "portable") else value
    own = {item.name: getattr(value, item.name) for item in dataclasses.fields(value) if item.init}
    return {"class_path": _public_path(type(value)), "init_args": {name: described(item) for name, item in own.items()}}


def built(description: object, kind: type[T], plugins: Sequence[str] = ()) -> T:
    """The object that was described.

    Args:
        description: from :func:`described`, or from the ``config.yaml`` of a run.
        kind: what it must be.
        plugins: packages besides ours whose classes may be built.

    Raises:
        CheckpointError: it is no description, names a class that is not allowed, is no dataclass or is of another
            kind, or gives a field that is missing, unknown or of another type.

    >>> from rairl_lightning.components import Granularity
    >>> built({"class_path": "rairl_lightning.components.Interval", "init_args": {"every": 5}}, Granularity)
    Interval(every=5)
    """
    return cast(T, _value(description, kind, (OURS, *plugins), kind.__name__))


def _value(given: object, hint: Any, allowed: Sequence[str], where: str) -> object:
    """``given`` as a value of type ``hint``."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(given, Mapping):
        return _object(given, options, allowed, where)
    if isinstance(given, list | tuple):
        return _sequence(given, options, allowed, where)
    if not any(_is_plain(given, option) for option in options):
        raise _unfit(where, hint, given)
    return given


def _object(given: Mapping[str, object], options: Sequence[Any], allowed: Sequence[str], where: str) -> object:
    kinds = tuple(option for option in options if isinstance(option, type))
    owner: Any
    if "class_path" in given:
        owner, arguments = _class(given["class_path"], allowed, where), given.get("init_args", {})
        unknown = given.keys() - {"class_path", "init_args"}
    else:  # as YAML writes an argument that can be of one class only
        owner, arguments, unknown = next(filter(dataclasses.is_dataclass, kinds), None), given, set()
    if owner is None or not issubclass(owner, kinds) or not isinstance(arguments, Mapping) or unknown:
        raise _unfit(where, " or ".join(kind.__name__ for kind in kinds), given)
    fields = {item.name: item for item in dataclasses.fields(owner) if item.init}
    if strangers := sorted(map(str, arguments.keys() - fields.keys())):
        raise _unfit(where, f"fields {', '.join(fields) or '(none)'}", f"{owner.__name__} with {', '.join(strangers)}")
    try:
        hints = typing.get_type_hints(owner)
        return owner(**{k: _value(item, hints[k], allowed, f"{where}.{k}") for k, item in arguments.items()})
    except (TypeError, NameError) as error:  # a field without default is missing, or a type for type checkers only
        raise _unfit(where, f"fields {', '.join(fields)}", error) from error


def _sequence(given: Sequence[object], options: Sequence[Any], allowed: Sequence[str], where: str) -> object:
    for option in options:
        origin, items = typing.get_origin(option), [one for one in typing.get_args(option) if one is not ...]
        if origin in (list, tuple):
            return origin(_value(item, items[0], allowed, f"{where}[{place}]") for place, item in enumerate(given))
    raise _unfit(where, options, given)


def _is_plain(given: object, option: Any) -> bool:
    if typing.get_origin(option) is typing.Literal:
        return given in typing.get_args(option)
    if option is float:
        return isinstance(given, float | int) and not isinstance(given, bool)
    return option in _PLAIN and type(given) is option


def _class(path: object, allowed: Sequence[str], where: str) -> type:
    """The dataclass of that name; its module is imported only if its package is allowed."""
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not any(module == package or module.startswith(f"{package}.") for package in allowed):
        raise CheckpointError(
            f"{where} is of a class outside of this package; it was not imported.",
            expected=" or ".join(f"{package}.…" for package in allowed),
            got=repr(path)[:80],
            remedy=f"if you trust that package: --plugins '[\"{module.partition('.')[0] or 'package'}\"]'",
        )
    try:
        owner = getattr(import_module(module), name, None)
    except ImportError:
        owner = None
    if not (isinstance(owner, type) and dataclasses.is_dataclass(owner)):
        raise _unfit(where, "a frozen dataclass of this version of the package", repr(path)[:80])
    return owner


def _public_path(owner: type) -> str:
    """The shortest path under which the class can be imported: it outlives a move between files."""
    parts = owner.__module__.split(".")
    for count in range(1, len(parts)):
        package = ".".join(parts[:count])
        if getattr(sys.modules.get(package), owner.__name__, None) is owner:
            return f"{package}.{owner.__name__}"
    return f"{owner.__module__}.{owner.__qualname__}"


def _unfit(where: str, expected: object, got: object) -> CheckpointError:
    return CheckpointError(
        f"The description of {where} cannot be read.",
        expected=getattr(expected, "__name__", expected),
        got=str(got)[:200],
        remedy="give the run's own configuration: --run_config runs/…/config.yaml",
    )
