"""One :class:`ConfigError` with a suggestion out of jsonargparse's nested complaints."""

import dataclasses
import re
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path

from rairl_lightning.cli_names import (
    argument_hints,
    argument_names,
    closest_key,
    configurations_like,
    listed,
    loaded,
    public_classes,
    taken_by,
    with_argument,
)
from rairl_lightning.commands import COMMANDS
from rairl_lightning.errors import ConfigError, RAIRLError

_STEP = re.compile(r"^([ -]*)(?:(?:Type .*class: )?Parser key \"([^\"]+)\"|.*?class_path '([^']+)')", re.MULTILINE)
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


def _did_you_mean(*names: str | None) -> str | None:
    found = [f"'{name}'" for name in names if name]
    return f"did you mean {' or '.join(found)}?" if found else None


def _classes(place: Place) -> dict[str, type]:
    packages = (path.split(".")[0] for path in place.classes if "." in path)
    return public_classes(packages, trainer=place.path.startswith("trainer"))


def _unknown_argument(found: re.Match[str], place: Place) -> ConfigError:
    named = found.groupdict()
    key = found["key"].lstrip("-").split("=")[0].split()[0].removesuffix(".class_path")
    path = named.get("owner") or (place.classes[-1] if place.classes else "")
    owner = loaded(path)
    if owner is None:
        return _unknown_option(found, place)
    key = f"{group}.{key}" if (group := named.get("group")) and not key.startswith(group) else key
    names = sorted(set(argument_names(owner)))
    others = with_argument(key.split(".")[0], owner, _classes(place).values())
    close = closest_key(key, names)
    remedy = _did_you_mean(place.key(close) if close else None)
    if others and key.split(".")[0] not in names:
        remedy = f"leave it out, or set {place.path} to {' or '.join(others[:3])}, which has it"
    own = (name for name in names if "." not in name)
    return ConfigError(
        f"{owner.__name__} has no argument '{key}'.",
        expected=None if remedy else listed(own) or "no arguments at all",
        got=place.key(key),
        remedy=remedy,
    )


def _unknown_option(found: re.Match[str], place: Place) -> ConfigError:
    given = found["key"].split()[0]
    key = given.lstrip("-").split("=")[0]
    files = [given] if Path(given).is_file() else configurations_like(Path(given))
    if not found["key"].startswith("-") and files and "." not in Path(given).stem:
        return ConfigError(
            "A configuration is given by --config.", got=given, remedy=_did_you_mean(f"--config {files[0]}")
        )
    remedy = _did_you_mean(closest_key(key, place.accepted)) or "list the options with --help"
    return ConfigError(f"There is no option '{key}'.", remedy=remedy)


def _unknown_class(found: re.Match[str], place: Place) -> ConfigError:
    wrong = found.groupdict().get("name") or place.classes[-1]
    if Path(wrong).suffix in _FILES:
        return _file_for_class(wrong, place)
    classes = _classes(place)
    owner = loaded(place.classes[-1]) if place.classes else None
    hints = argument_hints(owner) if owner is not None and place.classes[-1] != wrong else {}
    taken = taken_by(hints.get(place.path.rpartition(".")[2]), classes)
    by_name = {path.rpartition(".")[2]: path for path in reversed(classes)}
    if wrong in by_name:  # one of several types was expected, and the parser does not say which came near
        return ConfigError(
            f"{place.path} does not take a {wrong}.",
            expected=listed(taken) or None,
            got=by_name[wrong],
            remedy=None if taken else "see --help",
        )
    near = get_close_matches(wrong.split(".")[-1], taken, n=3, cutoff=0.7)
    near = near or get_close_matches(wrong.split(".")[-1], by_name, n=3, cutoff=0.75)
    return ConfigError(
        f"There is no class '{wrong}'.",
        expected=listed(taken) or "an importable class path, or the name of one of our classes",
        got=f"{place.path}: {wrong}",
        remedy=_did_you_mean(*(taken.get(name) or by_name[name] for name in near)),
    )


def _ambiguous_class(found: re.Match[str], place: Place) -> ConfigError:
    return ConfigError(
        f"Several classes are called {found['name']}.",
        got=f"{place.path}: {found['name']}",
        remedy=_did_you_mean(*found["paths"].rstrip(".").split(", ")),
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
    classes = _classes(place)
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
    got = found["got"].partition(". Got value: ")[0]
    return ConfigError(f"{place.path} has a value of the wrong type.", expected=expected, got=got)


def _no_list(found: re.Match[str], place: Place) -> ConfigError:
    return ConfigError(
        f"{place.path} takes a list.",
        got=found["got"],
        remedy=f"--{place.path}+={found['got']} adds one; --{place.path}=[A,B] is all of it",
    )


def _missing_file(found: re.Match[str], _: Place) -> ConfigError:
    file = Path(found["path"])
    remedy = _did_you_mean(*configurations_like(file)) or "paths are relative to the current folder"
    return ConfigError("A file does not exist.", got=str(file), remedy=remedy)


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
        expected=f"a value for {found['key'].rstrip(',').split('.', 1)[-1]}",
        remedy=starts.get(place.command, "start from a file in configs/: rairl fit --config configs/quickstart.yaml"),
    )


def _bad_yaml(found: re.Match[str], _: Place) -> ConfigError:
    return ConfigError("A configuration file is not valid YAML.", got=" ".join(found["got"].split()))


# The first that matches explains the message: the more specific stand first.
_COMPLAINTS: tuple[tuple[str, Callable[[re.Match[str], Place], ConfigError]], ...] = (
    (r"Option '(?P<key>[^']+)' is not accepted before subcommand '(?P<command>\w+)'", _before_command),
    (
        r"Option '(?P<key>[^']+)' is not accepted(?:\. Got value: Namespace\(class_path='(?P<owner>[^']+)')?",
        _unknown_argument,
    ),
    (r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'", _unknown_argument),
    (r"Subcommand '\w+' does not accept option '(?P<key>[^']+)'", _unknown_option),
    (r"unrecognized arguments: (?P<key>[^\n]+)", _unknown_argument),
    (r"module '[^']+' has no attribute '[^']+'|No module named '[^']+'", _unknown_class),
    (r"Import path (?:(?P<name>\S+) )?does not correspond to a subclass of (?P<base>\w+)", _wrong_base),
    (r"Expected a (?P<expected>[^\n]+?)\. Got value: (?P<got>[^\n]+)", _wrong_type),
    (r"- Expected a (?P<expected><class '(?:int|float|bool|str)'>)\n.*?Given value: (?P<got>[^\n]+)", _wrong_type),
    (r"- Expected a <class 'list'>\n.*?Given value: (?P<got>[^\n]+)", _no_list),
    (r"Multiple subclasses with name (?P<name>\w+)\. .*?ambiguity: (?P<paths>[^\n]+)", _ambiguous_class),
    (r"File does not exist: '(?P<path>[^']+)'", _missing_file),
    (r"invalid choice: '(?P<key>[^']+)' \(choose from (?P<choices>[^)]+)\)", _unknown_command),
    (r"the following arguments are required: (?P<key>\S+)", _missing_argument),
    (r"Problems parsing config: (?P<got>.+)", _bad_yaml),
    (r"Unexpected import path format: (?P<name>[^\n]+)", _no_import_path),
    (r"Expected a dot import path string: (?P<name>[\w.]+)", _unknown_class),
)
