"""The names that a configuration may use: keys, arguments of classes, and the classes that an argument takes."""

import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

PACKAGE = "rairl_lightning"
_TRAINER_PARTS = ("lightning.pytorch.callbacks", "lightning.pytorch.loggers", "lightning.pytorch.strategies")


def closest_key(key: str, accepted: Collection[str]) -> str | None:
    """The accepted dotted key most like ``key``, segment by segment, else one with the same last segment.

    >>> closest_key("dta.path", ["data", "data.path", "trainer.max_steps"])
    'data.path'
    >>> closest_key("max_steps", ["data", "data.path", "trainer.max_steps"])
    'trainer.max_steps'
    >>> closest_key("modle.class_path", ["data", "model"])
    'model.class_path'
    """
    parts: list[str] = []
    for segment in key.split("."):
        prefix = "".join(f"{part}." for part in parts)
        children = {name.removeprefix(prefix).split(".")[0] for name in accepted if name.startswith(prefix)}
        close = [segment] if segment in children else get_close_matches(segment, sorted(children), n=1)
        if children and not close:
            break
        parts += close or [segment]
    if parts != key.split(".")[: len(parts)]:
        return ".".join(parts)
    leaves = {name.split(".")[-1]: name for name in sorted(accepted, reverse=True)}
    return next((leaves[leaf] for leaf in get_close_matches(key.split(".")[-1], leaves, n=1, cutoff=0.8)), None)


def argument_names(owner: type) -> Iterator[str]:
    """Arguments of a class, of its bases as far as it passes them on, and the fields of those that are dataclasses."""
    for name, hint in argument_hints(owner).items():
        yield name
        for option in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                yield from (f"{name}.{item.name}" for item in dataclasses.fields(option))


def argument_hints(owner: type) -> dict[str, Any]:
    """Types of the arguments of a class by name, the parameter's default where there is none."""
    found: dict[str, Any] = {}
    for base in owner.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        try:
            hints = typing.get_type_hints(base.__init__)  # type: ignore[misc]
        except NameError:  # a hint imported for type checkers only
            hints = {}
        for one in parameters:
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                found.setdefault(one.name, hints.get(one.name, one.default))
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return found


def argument_defaults(owner: type) -> dict[str, Any]:
    """Defaults of the arguments that a class names itself."""
    parameters = inspect.signature(owner).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def loaded(class_path: str) -> type | None:
    """The class of that path, if its module is loaded."""
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def public_classes(packages: Iterable[str] = (), *, trainer: bool = False) -> dict[str, type]:
    """Every class one could have meant, by its shortest public path.

    Args:
        packages: to look through beside ours.
        trainer: whether callbacks, loggers and strategies of Lightning count.
    """
    roots = {PACKAGE, *packages} - {"lightning", "torch"} | (set(_TRAINER_PARTS) if trainer else set())
    paths: dict[type, str] = {}
    for name, module in sorted(sys.modules.items(), key=lambda item: len(item[0])):
        if any(name == root or name.startswith(f"{root}.") for root in roots) and ".cli" not in name:
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__.startswith(name) and value.__name__[0] != "_":
                    paths.setdefault(value, f"{name}.{value.__name__}")
    return {path: value for value, path in paths.items()}


def taken_by(hint: Any, classes: Mapping[str, type]) -> dict[str, str]:
    """Which classes an argument of type ``hint`` takes: path by short name.

    >>> from collections import Counter, OrderedDict
    >>> taken_by(OrderedDict | int | None, {"collections.Counter": Counter, "a.Own": type("Own", (OrderedDict,), {})})
    {'Own': 'a.Own'}
    """
    parts = (hint, *typing.get_args(hint), *(inner for one in typing.get_args(hint) for inner in typing.get_args(one)))
    bases = tuple(one for one in parts if isinstance(one, type) and one.__module__ != "builtins")
    return {
        path.rpartition(".")[2]: path
        for path, value in sorted(classes.items())
        if issubclass(value, bases) and value not in bases and not inspect.isabstract(value)
    }


def with_argument(key: str, owner: type, classes: Iterable[type]) -> list[str]:
    """Names of the classes beside ``owner``, of its own kind, that have an argument which it has not."""
    kind = owner.__bases__[0]
    others = (one for one in classes if kind is not object and issubclass(one, kind) and one not in (owner, kind))
    return sorted(one.__name__ for one in others if key in argument_hints(one))


def listed(names: Iterable[str]) -> str:
    """Names beside each other, in lines that a terminal holds."""
    return textwrap.fill(", ".join(names), 100, subsequent_indent=" " * 12, break_long_words=False)


def configurations_like(file: Path) -> list[str]:
    """YAML files that may have been meant: beside it by a name like it, else anywhere in ``configs``."""
    beside = {path.name: path for path in sorted(file.parent.glob("*.y*ml"))}
    shipped = {path.name: path for path in sorted(Path("configs").glob("**/*.y*ml"), reverse=True)}
    for known in (beside, shipped):
        names = {**{path.stem: path for path in known.values()}, **known}
        if close := get_close_matches(file.name, names, n=1):
            return [_relative(names[close[0]])]
    return []


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path)
