"""``rairl plan``: the configuration of ``rairl fit``, parsed and built by the same parser, and planned, not run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from rairl_lightning.cli_commands import options_of, parsed
from rairl_lightning.commands.plan import plan


def launch(args: Sequence[str]) -> None:
    """Plan; ends with the command's exit code.

    Args:
        args: the command line after ``plan``: its own options, and those of ``fit``.

    Raises:
        RAIRLError: whatever is wrong, as one message.
        SystemExit: 0 if it fits, 3 if not.
    """
    own, others = separated(args)
    options = parsed(plan, own)  # --help ends here, before anything heavy is imported
    from rairl_lightning.cli_parser import ROOMS, PlannedCLI

    for room in ROOMS:
        import_module(f"rairl_lightning.{room}")
    from rairl_lightning.data.datamodule import DemonstrationDataModule
    from rairl_lightning.planning import setup_of

    cli = PlannedCLI(DemonstrationDataModule, ["fit", *others])
    trainer = cli._get(cli.config_init, "trainer")
    setup = setup_of(cli.model, cli.datamodule, trainer.get("callbacks") or (), str(trainer.get("precision")))
    raise SystemExit(plan(setup, **options))


def separated(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of ``plan``, and all others; a switch without a value is on.

    >>> separated(["--config", "a.yaml", "--device", "cpu", "--json", "--model.rounds=3"])
    (['--device', 'cpu', '--json', 'true'], ['--config', 'a.yaml', '--model.rounds=3'])
    """
    switches = {f"--{name}": kind == "bool" for name, kind in options_of(plan).items()} | {"--help": None, "-h": None}
    own: list[str] = []
    others: list[str] = []
    waiting = list(args)
    while waiting:
        argument = waiting.pop(0)
        name, given, _ = argument.partition("=")
        if name not in switches:
            others.append(argument)
            continue
        own.append(argument)
        if not given and switches[name] is not None:
            bare = not waiting or waiting[0].startswith("-")
            own += ["true"] if bare and switches[name] else waiting[:1]
            waiting = waiting if bare and switches[name] else waiting[1:]
    return own, others
