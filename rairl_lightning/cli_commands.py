"""The commands beside Lightning's: a function becomes a command line, its docstring the help."""

from __future__ import annotations

import inspect
import os
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rairl_lightning.cli_errors import explained, innermost, not_utf8
from rairl_lightning.cli_imports import announce
from rairl_lightning.errors import RAIRLError

# Importing a room makes the names of its classes known, so that an option may say `Dense` for its full path. None of
# them loads transformers: --help must not wait for it.
ROOMS = ("components", "data.demonstrations", "data.traces")

Function = Callable[..., Any]


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Defaults and types of jsonargparse; line breaks of the description as written, for the example."""


def launch(name: str, args: Sequence[str]) -> None:
    """Run one of :data:`~rairl_lightning.commands.COMMANDS`.

    Args:
        name: of the command, and of its module in :mod:`rairl_lightning.commands`.
        args: the command line after the name.

    Raises:
        RAIRLError: whatever is wrong, as one message.
    """
    function = getattr(import_module(f"rairl_lightning.commands.{name}"), name)
    arguments = parsed(function, args)
    from rairl_lightning.cli_quiet import no_loading_bars  # loads transformers, which --help did not need

    no_loading_bars()
    function(**arguments)


def parsed(function: Function, args: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``function`` as the command line and ``--config`` files give them, objects built.

    Raises:
        ConfigError: for anything the parser does not accept.
        RAIRLError: what a constructor of ours found.
    """
    for room in ROOMS:
        import_module(f"rairl_lightning.{room}")
    parser = parser_of(function)
    announce(args)
    try:
        config = parser.parse_args(_with_switches(function, _with_first_named(function, args)))
    except ArgumentError as error:
        accepted = {action.dest for action in parser._actions}
        raise explained(str(error), accepted, command=function.__name__) from error
    except UnicodeDecodeError as error:
        raise not_utf8(error) from error
    try:
        built = parser.instantiate(config)
    except RAIRLError:
        raise
    except (TypeError, ValueError) as error:
        raise innermost(error) from error
    return {key: value for key, value in built.as_dict().items() if key != "config"}


def _with_first_named(function: Function, args: Sequence[str]) -> list[str]:
    """`rairl report RUN` for `rairl report --run RUN`: a leading value belongs to the first option."""
    if not args or args[0].startswith("-"):
        return list(args)
    return [f"--{next(iter(inspect.signature(function).parameters))}", *args]


def _with_switches(function: Function, args: Sequence[str]) -> list[str]:
    """`--merged` for `--merged true`: a switch that no value follows is on."""
    switches = {f"--{name}" for name, kind in options_of(function).items() if kind == "bool"}
    pairs = ((one, one in switches and behind.startswith("-")) for one, behind in pairwise([*args, "--"]))
    return [word for one, bare in pairs for word in ([one, "true"] if bare else [one])]


def parser_of(function: Function) -> ArgumentParser:
    """A parser whose options are the function's arguments, with ``--config`` and ``--print_config``."""
    text = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:")[0].strip()
    width = max(40, int(os.environ.get("COLUMNS", "0")) or 120)
    parser = ArgumentParser(
        prog=f"rairl {function.__name__}",
        description=text,
        exit_on_error=False,
        formatter_class=lambda prog: _Formatter(prog, max_help_position=28, width=width),  # type: ignore[arg-type]
    )
    parser.add_argument("--config", action="config", help="YAML file of options; may be repeated, the later wins")
    given: set[str | int] = {one for one in inspect.signature(function).parameters if one not in options_of(function)}
    parser.add_function_arguments(function, as_group=False, fail_untyped=True, skip=given)
    return parser


def options_of(function: Function) -> dict[str, str]:
    """The options of a command with their types as written; positional-only arguments are given by whoever calls it."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: str(one.annotation) for one in parameters if one.kind is not one.POSITIONAL_ONLY}
