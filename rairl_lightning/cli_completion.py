"""``rairl completion``: a shell script that completes commands, options and the classes that an option takes."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, get_type_hints

from rairl_lightning.cli_commands import ROOMS, parser_of
from rairl_lightning.cli_names import argument_hints, argument_names, public_classes, taken_by
from rairl_lightning.cli_parser import DESCRIPTIONS, RAIRLCLI, algorithms
from rairl_lightning.cli_parser import ROOMS as FITTED_ROOMS
from rairl_lightning.commands import COMMANDS
from rairl_lightning.errors import ConfigError

SHELLS = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"}
"""What a shell needs before the script; zsh reads bash's."""

_SCRIPT = """\
# Written by `rairl completion`; write it again after an update.
_rairl() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""
    if [ "$word" = "=" ]; then word=""; elif [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="%(commands)s"
    else
        case "${COMP_WORDS[1]} $before" in
%(values)s
        esac
    fi
    if [ -z "$words" ] && [ "${word:0:1}" = "-" ]; then
        case "${COMP_WORDS[1]}" in
%(options)s
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o bashdefault -o default -F _rairl rairl
"""


class _Parsers(RAIRLCLI):
    """Builds the parsers of Lightning's commands, and stops there."""

    found: ClassVar[dict[str, Any]] = {}

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Keep the parsers; nothing is parsed.

        Raises:
            SystemExit: always.
        """
        type(self).found = dict(self._subcommand_parsers)
        raise SystemExit(0)


def launch(args: Sequence[str]) -> None:
    """Print the script.

    Args:
        args: the command line after ``completion``: a shell.

    Raises:
        ConfigError: there is no script for it.
    """
    if len(args) != 1 or args[0] not in SHELLS:
        raise ConfigError(
            "A script is written for one shell.",
            expected=" | ".join(SHELLS),
            got=" ".join(args) or "none",
            remedy="rairl completion bash > ~/.local/share/bash-completion/completions/rairl",
        )
    print(SHELLS[args[0]] + script(), end="")


def script() -> str:
    """What bash completes; its words are those of this version."""
    from rairl_lightning.data.datamodule import DemonstrationDataModule

    for room in {*ROOMS, *FITTED_ROOMS}:
        import_module(f"rairl_lightning.{room}")
    with suppress(SystemExit):
        _Parsers(DemonstrationDataModule, ["fit"])
    own = {f"--model.{name}" for one in algorithms().values() for name in argument_names(one)}
    options = {name: sorted({*_flags(parser), *own}) for name, parser in _Parsers.found.items()}
    words = {"* --model": sorted(algorithms()), "completion completion": list(SHELLS)}
    words |= _words("* --data.", argument_hints(DemonstrationDataModule))
    for one in algorithms().values():
        words |= _words("* --model.", argument_hints(one))
    for name in COMMANDS:
        function = getattr(import_module(f"rairl_lightning.commands.{name}"), name)
        options[name] = _flags(parser_of(function)) + (options["fit"] if name == "plan" else [])
        words |= _words(f"{name} --", get_type_hints(function))
    filled = {
        "commands": " ".join([*DESCRIPTIONS, *COMMANDS, "completion"]),
        "values": "\n".join(_case(place, taken) for place, taken in words.items() if taken),
        "options": "\n".join(_case(name, flags) for name, flags in options.items()),
    }
    return _SCRIPT % filled


def _flags(parser: Any) -> list[str]:
    """Options of a parser, but for those that explain a class and those of one."""
    names = (name for action in parser._actions for name in action.option_strings if action.help != SUPPRESS)
    return [name for name in names if name.startswith("--") and not name.endswith((".help", "+"))]


def _words(prefix: str, hints: Mapping[str, Any]) -> dict[str, list[str]]:
    classes = public_classes()
    known = {name: ["false", "true"] if hint is bool else list(taken_by(hint, classes)) for name, hint in hints.items()}
    return {f"{prefix}{name}": words for name, words in known.items()}


def _case(place: str, words: Iterable[str]) -> str:
    pattern = place.replace(" ", r"\ ")
    return f'            {pattern}) words="{" ".join(words)}" ;;'
