"""One :class:`ConfigError` with a suggestion out of jsonargparse's nested complaints."""

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from rairl_lightning.commands import COMMANDS
from rairl_lightning.errors import ConfigError, RAIRLError

_STEP = re.compile(r"^([ -]*)(?:Parser key \"([^\"]+)\"|.*?class_path '([^']+)')", re.MULTILINE)
_NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:$|Given value|Expected a path but|- Expected a <class 'None|^$"
)
_FILES = (".jsonl", ".json", ".gz", ".parquet", ".csv")
_READERS = {
    "traces": ("TraceFile", "path"),
    "selection": ("TraceFile", "path"),
    "steps": ("ProcessSteps", "path"),
    "data": ("JsonLines", "test"),
}
_TRAINER_PARTS = ("lightning.pytorch.callbacks", "lightning.pytorch.loggers", "lightning.pytorch.strategies")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in the configuration a complaint arose.

    Attributes:
        path: dotted key, e.g. ``model.reward``.
        classes: class paths on the way there, outermost first.
        accepted: every key of the command's own parser.
        command: its name.
    """

    path: str
    classes: tuple[str, ...]
    accepted: Collection[str]
    command: str

    @classmethod
    def read(cls, before: str, accepted: Collection[str], command: str) -> "Place":
        """Follow the indentation of the message up to the complaint."""
        stack: list[tuple[int, str | None, str | None]] = []
        for step in _STEP.finditer(before):
            depth = len(step[1])
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, step[2], step[3]))
        path = ".".join(key for _, key, _ in stack if key)
        return cls(path, tuple(name for _, _, name in stack if name), accepted, command)

    def key(self, name: str) -> str:
        """``name`` with the path in front."""
        return f"{self.path}.{name}" if self.path else name


def explained(message: str, accepted: Collection[str], command: str = "fit") -> ConfigError:
    """Say in one message what jsonargparse says in twenty lines.

    Args:
        message: text of the ``ArgumentError``.
        accepted: dotted keys that the command's own parser knows.
        command: whose options they are, for the remedy.

    >>> print(explained("Subcommand 'fit' does not accept option 'trainer.max_stepss'", ["trainer.max_steps"]))
    There is no option 'trainer.max_stepss'.
      remedy:   did you mean 'trainer.max_steps'?
    """
    for pattern, explain in _COMPLAINTS:
        if found := re.search(pattern, message, re.DOTALL):
            return explain(found, Place.read(message[: found.start()], accepted, command))
    lines = [line.strip() for line in message.splitlines() if not _NOISE.search(line.strip())]
    return ConfigError("The configuration is not accepted.", got="\n            ".join(lines))


def not_utf8(error: UnicodeDecodeError) -> ConfigError:
    """What is wrong with a ``--config`` file that is no text."""
    return ConfigError("A --config file is not text in UTF-8.", got=error, remedy="save it as UTF-8")


def innermost(error: BaseException) -> RAIRLError:
    """The error that a constructor raised, out of those that jsonargparse raised from it."""
    found = error
    while not isinstance(found, RAIRLError) and (cause := found.__cause__):
        found = cause
    if isinstance(found, RAIRLError):
        return found
    if isinstance(found, ModuleNotFoundError):
        told, remedy = " ".join(str(found).split()), "pip install it (for WandbLogger: wandb), or name another class"
        return ConfigError("A configured class needs a package that is not installed.", got=told, remedy=remedy)
    return ConfigError("A configured value is refused.", got=found, remedy="--debug shows where")


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
    """Arguments of a class and of its bases, and the fields of arguments that are dataclasses."""
    for base in owner.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        try:
            hints = typing.get_type_hints(base.__init__)  # type: ignore[misc]
        except NameError:  # a hint imported for type checkers only
            hints = {}
        for name, parameter in inspect.signature(base.__init__).parameters.items():  # type: ignore[misc]
            if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                yield name
                for option in (hints.get(name), *typing.get_args(hints.get(name))):
                    if dataclasses.is_dataclass(option):
                        yield from (f"{name}.{item.name}" for item in dataclasses.fields(option))


def _did_you_mean(*names: str | None) -> str | None:
    found = [f"'{name}'" for name in names if name]
    return f"did you mean {' or '.join(found)}?" if found else None


def _loaded(class_path: str) -> object:
    module, _, name = class_path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _public_classes(place: Place) -> dict[str, type]:
    """Every class one could have meant, by its shortest public path."""
    roots = {"rairl_lightning", *(path.split(".")[0] for path in place.classes if "." in path)} - {"lightning", "torch"}
    roots |= set(_TRAINER_PARTS) if place.path.startswith("trainer") else set()
    paths: dict[type, str] = {}
    for name, module in sorted(sys.modules.items(), key=lambda item: len(item[0])):
        if any(name == root or name.startswith(f"{root}.") for root in roots) and ".cli" not in name:
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__.startswith(name) and value.__name__[0] != "_":
                    paths.setdefault(value, f"{name}.{value.__name__}")
    return {path: value for value, path in paths.items()}


def _unknown_argument(found: re.Match[str], place: Place) -> ConfigError:
    key = found["key"].lstrip("-").split("=")[0].split()[0]
    owner = _loaded(place.classes[-1]) if place.classes else None
    if not isinstance(owner, type):
        return _unknown_option(found, place)
    key = f"{group}.{key}" if (group := found.groupdict().get("group")) and not key.startswith(group) else key
    names = sorted(set(argument_names(owner)))
    close = closest_key(key, names)
    return ConfigError(
        f"{owner.__name__} has no argument '{key}'.",
        expected=", ".join(name for name in names if "." not in name) or "no arguments at all",
        got=place.key(key),
        remedy=_did_you_mean(place.key(close) if close else None),
    )


def _unknown_option(found: re.Match[str], place: Place) -> ConfigError:
    key = found["key"].lstrip("-").split("=")[0].split()[0]
    remedy = _did_you_mean(closest_key(key, place.accepted)) or "list the options with --help"
    return ConfigError(f"There is no option '{key}'.", remedy=remedy)


def _unknown_class(found: re.Match[str], place: Place) -> ConfigError:
    wrong = found.groupdict().get("name") or place.classes[-1]
    by_name: dict[str, str] = {}
    for path in _public_classes(place):
        by_name.setdefault(path.split(".")[-1], path)
    if Path(wrong).suffix in _FILES:
        return _file_for_class(wrong, place)
    if wrong in by_name:  # one of several types was expected, and the parser does not say which came near
        return ConfigError(f"{place.path} does not take a {wrong}.", got=by_name[wrong], remedy="see --help")
    close = get_close_matches(wrong.split(".")[-1], by_name, n=3, cutoff=0.75)
    return ConfigError(
        f"There is no class '{wrong}'.",
        expected="an importable class path, or the name of one of our classes",
        got=f"{place.path}: {wrong}",
        remedy=_did_you_mean(*(by_name[name] for name in close)),
    )


def _file_for_class(file: str, place: Place) -> ConfigError:
    name, option = _READERS.get(place.path, ("CLASS", "path"))
    return ConfigError(
        f"{place.path} takes a class, which says how a file is read.",
        expected=name,
        got=file,
        remedy=f"--{place.path} {name} --{place.path}.{option} {file}",
    )


def _no_import_path(found: re.Match[str], place: Place) -> ConfigError:
    return _file_for_class(found["name"], place)


def _wrong_base(found: re.Match[str], place: Place) -> ConfigError:
    classes = _public_classes(place)
    given = found.string.rpartition("Given value: ")[2]
    bases = tuple(value for path, value in classes.items() if path.split(".")[-1] == found["base"])
    names = [path for path, value in classes.items() if bases and issubclass(value, bases) and value not in bases]
    return ConfigError(
        f"{place.path} takes a {found['base']}.",
        expected=" or ".join(sorted(names)) or f"a subclass of {found['base']}",
        got=found["name"] or given,
    )


def _wrong_type(found: re.Match[str], place: Place) -> ConfigError:
    expected = re.sub(r"<class '([^']+)'>", r"\1", found["expected"])
    return ConfigError(f"{place.path} has a value of the wrong type.", expected=expected, got=found["got"])


def _missing_file(found: re.Match[str], _: Place) -> ConfigError:
    file = Path(found["path"])
    names = [path.name for path in file.parent.glob("*.y*ml")]
    close = get_close_matches(file.name, names, n=1)
    return ConfigError(
        "A file does not exist.",
        got=str(file),
        remedy=_did_you_mean(*(str(file.parent / name) for name in close))
        or "paths are relative to the current folder",
    )


def _unknown_command(found: re.Match[str], _: Place) -> ConfigError:
    commands = [*re.findall(r"[a-z]+", found["choices"]), *COMMANDS]
    return ConfigError(
        f"There is no command '{found['key']}'.",
        expected=" | ".join(commands),
        remedy=_did_you_mean(*get_close_matches(found["key"], commands, n=1)),
    )


def _before_command(found: re.Match[str], _: Place) -> ConfigError:
    return ConfigError(
        f"Options of '{found['command']}' stand before it.",
        got=found["key"],
        remedy=f"write `rairl {found['command']} --config …`",
    )


def _missing_argument(found: re.Match[str], place: Place) -> ConfigError:
    starts = {name: f"see the example in rairl {name} --help" for name in COMMANDS}
    return ConfigError(
        "The configuration is incomplete.",
        expected=f"a value for {found['key'].split('.', 1)[-1]}",
        remedy=starts.get(place.command, "start from a file in configs/: rairl fit --config configs/quickstart.yaml"),
    )


def _bad_yaml(found: re.Match[str], _: Place) -> ConfigError:
    return ConfigError("A configuration file is not valid YAML.", got=" ".join(found["got"].split()))


# The first that matches explains the message: the more specific stand first.
_COMPLAINTS: tuple[tuple[str, Callable[[re.Match[str], Place], ConfigError]], ...] = (
    (r"Option '(?P<key>[^']+)' is not accepted before subcommand '(?P<command>\w+)'", _before_command),
    (r"Option '(?P<key>[^']+)' is not accepted", _unknown_argument),
    (r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'", _unknown_argument),
    (r"Subcommand '\w+' does not accept option '(?P<key>[^']+)'", _unknown_option),
    (r"unrecognized arguments: (?P<key>[^\n]+)", _unknown_argument),
    (r"module '[^']+' has no attribute '[^']+'|No module named '[^']+'", _unknown_class),
    (r"Import path (?:(?P<name>\S+) )?does not correspond to a subclass of (?P<base>\w+)", _wrong_base),
    (r"Expected a (?P<expected>[^\n]+?)\. Got value: (?P<got>[^\n]+)", _wrong_type),
    (r"- Expected a (?P<expected><class '(?:int|float|bool|str)'>)\n.*Given value: (?P<got>[^\n]+)", _wrong_type),
    (r"File does not exist: '(?P<path>[^']+)'", _missing_file),
    (r"invalid choice: '(?P<key>[^']+)' \(choose from (?P<choices>[^)]+)\)", _unknown_command),
    (r"the following arguments are required: (?P<key>\S+)", _missing_argument),
    (r"Problems parsing config: (?P<got>.+)", _bad_yaml),
    (r"Unexpected import path format: (?P<name>[^\n]+)", _no_import_path),
    (r"Expected a dot import path string: (?P<name>[\w.]+)", _unknown_class),
)
