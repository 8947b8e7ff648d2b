"""The command line as Lightning knows it: parser, checks on the Trainer's flags, and what Lightning's exits mean."""

import re
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.checkpoint_files import chosen
from rairl_lightning.callbacks.dry_run import DryRun
from rairl_lightning.callbacks.hyperparameters import Hyperparameters
from rairl_lightning.callbacks.interrupt import InterruptCheckpoint
from rairl_lightning.callbacks.own_folder import OneFolder, RunLock, put_aside
from rairl_lightning.callbacks.saved_config import SavedConfig
from rairl_lightning.cli_checks import check_trainer, refuse_null
from rairl_lightning.cli_errors import explained, innermost, not_utf8
from rairl_lightning.cli_imports import announce
from rairl_lightning.cli_loggers import default_loggers
from rairl_lightning.cli_names import argument_names, loaded, public_classes
from rairl_lightning.cli_print import commented
from rairl_lightning.cli_words import in_parsers_words
from rairl_lightning.errors import ConfigError, RAIRLError, TrainingError
from rairl_lightning.evaluation.run_names import folder_of, point_latest

# Importing a room makes the names of its classes known, so that YAML may say `RAIRL` for its full path.
ROOMS = ("module", "algorithms", "callbacks", "components", "rollouts")

DESCRIPTIONS = {
    "fit": "Train the policy and its reward on expert demonstrations.",
    "validate": "Pass@1 of a checkpoint on the test questions (during fit, validation reads the selection split).",
    "test": "Pass@1 on the test split, and what the reward is worth there: reranking and localisation.",
    "predict": "The policy's greedy answers to the test questions.",
}

TERMINATED = 128 + 15

_LOST = re.compile(
    r"Connection (?:closed|reset) by peer|Broken pipe|ncclRemoteError|Application timeout caused pair closure"
    r"|Timed out waiting \d+ms for (?:send|recv)"
)


def algorithms() -> dict[str, type[RoundsModule]]:
    """Ours, by the name that ``--model`` takes."""
    known = (one for one in public_classes().values() if issubclass(one, RoundsModule) and hasattr(one, "short_name"))
    return {one.__name__: one for one in known}


class RAIRLCLI(LightningCLI):
    """``rairl fit | validate | test | predict``.

    The model is named by ``model.class_path`` (any LightningModule), its parts by class paths or short names.

    Args:
        datamodule_class: the data module whose arguments are ``--data.*``.
        args: the command line without the program's name.
    """

    def __init__(self, datamodule_class: type[LightningDataModule], args: Sequence[str]) -> None:
        super().__init__(
            model_class=LightningModule,
            datamodule_class=datamodule_class,
            save_config_callback=SavedConfig,
            save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
            trainer_defaults={
                "callbacks": [OneFolder(), InterruptCheckpoint()],
                "use_distributed_sampler": False,  # the loaders know their rank themselves
            },
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                **{key: {"description": DESCRIPTIONS[key]} for key in self.subcommands()},
            },
            subclass_mode_model=True,
            args=list(args),
            auto_configure_optimizers=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and explain what is wrong in one message.

        Raises:
            ConfigError: for anything the parser does not accept.
        """
        announce(args)
        short, args = in_parsers_words(args)
        told = StringIO()
        try:
            with redirect_stdout(told) if short else nullcontext():
                self.config = parser.parse_args(args)
        except SystemExit:  # after --print_config
            if short:
                owners: dict[str, Any] = {"trainer": Trainer, "data": self.datamodule_class}
                print(commented(told.getvalue(), owners), end="")
            raise
        except ArgumentError as error:
            accepted = {action.dest for one in self._subcommand_parsers.values() for action in one._actions}
            accepted |= {f"model.{name}" for one in algorithms().values() for name in argument_names(one)}
            raise explained(str(error), accepted) from error
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        command = self.config[self.config["subcommand"]]
        if command.get("weights_only") is None:
            command["weights_only"] = True  # checkpoints are data: they may hold no code

    def _parse_ckpt_path(self) -> None:
        """Keep what the user configured; Lightning would replace it by the checkpoint's hyper-parameters."""

    def before_instantiate_classes(self) -> None:
        """Name the run's folder where the user has not."""
        command = self.config[self.subcommand]
        if command["trainer"]["default_root_dir"] is None:
            run = folder_of(_slug(command), command.get("ckpt_path"), fit=self.subcommand == "fit")
            command["trainer"]["default_root_dir"] = str(run)

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer.

        Raises:
            RAIRLError: what a constructor of ours found, which jsonargparse buries in a ValueError of its own.
            ConfigError: for any other value that a constructor refuses.
        """
        refuse_null(self._get(self.config, "model").as_dict())
        try:
            super().instantiate_classes()
            if isinstance(self.model, PairModule):
                self._choose_checkpoint()
        except RAIRLError:
            raise
        except (ModuleNotFoundError, TypeError, ValueError) as error:
            raise innermost(error) from error

    def _choose_checkpoint(self) -> None:
        """Say which file ``--ckpt_path`` means, before anything large is loaded."""
        command = self.config_init[self.subcommand]
        if command.get("ckpt_path") is not None and command.get("weights_only"):
            run = Path(self.trainer.default_root_dir)
            command["ckpt_path"] = chosen(str(command["ckpt_path"]), run, fit=self.subcommand == "fit")

    def _run_subcommand(self, subcommand: str) -> None:
        """Fit with the run's folder to ourselves; rehearse in one that is removed.

        Raises:
            CheckpointError: another run is writing there.
        """
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            with TemporaryDirectory(prefix="rairl-dry-run-") as folder:
                self.trainer._default_root_dir = folder  # type: ignore[attr-defined]
                super()._run_subcommand(subcommand)
            return
        root = str(self.trainer.default_root_dir)
        own = subcommand == "fit" and self.trainer.is_global_zero and "://" not in root
        with RunLock(Path(root)) if own else nullcontext():
            if own:
                self._make_room(Path(root))
                point_latest(Path(root))
            super()._run_subcommand(subcommand)

    def _make_room(self, run: Path) -> None:
        asked = self.config_init["fit"].get("ckpt_path")
        requeued = asked is None and SLURMEnvironment.detect() and any(run.glob("hpc_ckpt_*.ckpt"))
        if requeued or (asked is not None and not Path(str(asked)).is_file()):
            return  # Lightning chooses what it goes on from
        curves = [Path(one.save_dir, str(one.name or "")) for one in self.trainer.loggers if one.save_dir]
        put_aside(run, Path(str(asked)) if asked is not None else None, curves)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, once its flags are known to suit the model, with loggers where the user named none.

        Raises:
            ConfigError: for flags that cannot work.
        """
        given = self._get(self.config, "trainer")
        check_trainer(given, manual=not self.model.automatic_optimization)
        if given["logger"] in (None, True) and not given["barebones"]:
            kwargs["logger"] = default_loggers(str(given["default_root_dir"]), str(self.subcommand))
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.callbacks.append(DryRun())  # type: ignore[attr-defined]
        elif trainer.loggers:
            # Lightning has dumped the configuration to build the model from it; to dump it again takes as long.
            trainer.callbacks.append(Hyperparameters(self.config_dump))  # type: ignore[attr-defined]
        return trainer


class PlannedCLI(RAIRLCLI):
    """Parses and builds what ``fit`` would run, but no Trainer, which would look for the device, and runs nothing."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only ``fit``: a parser of each would take as long again."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def instantiate_trainer(self, **kwargs: Any) -> None:  # type: ignore[override]
        """Only check the flags, as fit does.

        Raises:
            ConfigError: for flags that cannot work.
        """
        check_trainer(self._get(self.config, "trainer"), manual=not self.model.automatic_optimization)

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def _slug(command: Namespace) -> str:
    """Algorithm and data of a command, for the name of a folder."""
    model = command["model"]["class_path"]
    data = (command["data"].get("source") or {}).get("class_path", "data")
    algorithm = getattr(loaded(model), "short_name", model.rpartition(".")[2])
    return f"{algorithm}-{data.rpartition('.')[2]}".lower()


def explain_lost_process(run: Callable[[], object]) -> None:
    """Call ``run``, and say in words of ours that a message to the run's other processes failed.

    Raises:
        TrainingError: another process is gone.
    """
    try:
        run()
    except RuntimeError as error:
        if isinstance(error, RAIRLError) or not _LOST.search(str(error)):
            raise
        raise TrainingError(
            "Another process of this run is gone, and this one cannot go on alone.",
            got=str(error).partition("\n")[0],
            remedy="see why that one ended (killed for memory?), then continue with --ckpt_path last",
        ) from error


def launch(args: Sequence[str], datamodule_class: type[LightningDataModule] | None = None) -> None:
    """Run one command.

    Args:
        args: the command line without the program's name.
        datamodule_class: the data module; ours if None.

    Raises:
        ConfigError: where Lightning finds a misconfiguration.
        TrainingError: another process of the run is gone.
        KeyboardInterrupt: after Ctrl-C, where Lightning would exit with 1.
        SystemExit: 143 after SIGTERM, where Lightning would exit with 0.
    """
    try:
        if datamodule_class is None:
            for room in ROOMS:
                import_module(f"rairl_lightning.{room}")
            datamodule_class = import_module("rairl_lightning.data.datamodule").DemonstrationDataModule
        module = datamodule_class
        explain_lost_process(lambda: RAIRLCLI(module, args))
    except MisconfigurationException as error:
        raise ConfigError("Lightning refuses this configuration.", got=error) from error
    except SIGTERMException as stop:
        raise SystemExit(TERMINATED) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
