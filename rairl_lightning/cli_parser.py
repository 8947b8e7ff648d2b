"""The command line as Lightning knows it: parser, checks on the Trainer's flags, and what Lightning's exits mean."""

import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.callbacks.checkpoint_files import chosen
from rairl_lightning.callbacks.hyperparameters import Hyperparameters
from rairl_lightning.callbacks.interrupt import InterruptCheckpoint
from rairl_lightning.callbacks.own_folder import RunLock, put_aside
from rairl_lightning.cli_errors import explained, innermost, not_utf8
from rairl_lightning.cli_imports import announce
from rairl_lightning.cli_loggers import default_loggers
from rairl_lightning.errors import ConfigError, RAIRLError, TrainingError

# Importing a room makes the names of its classes known, so that YAML may say `RAIRL` for its full path.
ROOMS = ("module", "algorithms", "callbacks", "components", "rollouts")

DESCRIPTIONS = {
    "fit": "Train the policy and its reward on expert demonstrations.",
    "validate": "Pass@1 of a checkpoint on the test questions (during fit, validation reads the selection split).",
    "test": "Pass@1 on the test split, and what the reward is worth there: reranking and localisation.",
    "predict": "The policy's greedy answers to the test questions.",
}

TERMINATED = 128 + 15

_SCALER = "its loss scale would clip scaled gradients, and one scale cannot serve two optimisers"
_NO_MASTER = "the trained weights themselves would be rounded, with no float32 copy"
_REFUSED_PRECISION = {"16-mixed": _SCALER, "16": _SCALER, "16-true": _NO_MASTER, "bf16-true": _NO_MASTER}
_REFUSED_STRATEGIES = {
    "fsdp": "FSDP1 flattens 4-bit and float weights into one, and cannot clip by norm",
    "deepspeed": "its engine steps one optimiser of one model, and there are two players",
    "modelparallel": "by itself it does not know which shards two players share; fsdp2 is it, with that knowledge",
}
_LOST = re.compile(
    r"Connection (?:closed|reset) by peer|Broken pipe|ncclRemoteError|Application timeout caused pair closure"
    r"|Timed out waiting \d+ms for (?:send|recv)"
)
_OURS = {
    "accumulate_grad_batches": (1, "model.init_args.max_tokens_per_microbatch"),
    "gradient_clip_val": (None, "model.init_args.gradient_clip"),
    "gradient_clip_algorithm": (None, "model.init_args.gradient_clip"),
}


def check_trainer(trainer: Mapping[str, Any], *, manual: bool) -> None:
    """Refuse what cannot work, before anything large is loaded.

    Args:
        trainer: the Trainer's arguments as configured.
        manual: whether the model optimises manually, as ours do.

    Raises:
        ConfigError: for fp16 and pure 16-bit precision, for strategies that cannot work, and under manual optimisation
            for the Trainer's own accumulation and clipping.
    """
    precision = str(trainer.get("precision"))
    if precision in _REFUSED_PRECISION:
        raise ConfigError(
            f"trainer.precision {precision} is refused: {_REFUSED_PRECISION[precision]}.",
            expected="32-true or bf16-mixed",
            got=precision,
            remedy="use --trainer.precision bf16-mixed; a 4-bit base is set in the model, not here",
        )
    strategy = trainer.get("strategy")
    name = strategy if isinstance(strategy, str) else (strategy or {}).get("class_path", "")
    kind = name.split(".")[-1].lower()
    for prefix, reason in _REFUSED_STRATEGIES.items():
        if kind.startswith(prefix) and kind != "fsdp2":
            raise ConfigError(
                f"trainer.strategy {name} is refused: {reason}.",
                expected="auto on one device, ddp or fsdp2 on several",
                got=name,
                remedy="use --trainer.strategy ddp; a 4-bit base needs a quarter of the memory; or fsdp2",
            )
    for key, (neutral, ours) in _OURS.items():
        if manual and trainer.get(key) not in (neutral, None):
            raise ConfigError(
                f"trainer.{key} does nothing here: the algorithm steps its optimisers itself.",
                expected=f"trainer.{key} left alone",
                got=trainer.get(key),
                remedy=f"set {ours}",
            )


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
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "callbacks": [InterruptCheckpoint()],
                "default_root_dir": "runs",
                "use_distributed_sampler": False,  # the loaders know their rank themselves
            },
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                **{key: {"description": text} for key, text in DESCRIPTIONS.items()},
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
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            accepted = {action.dest for one in self._subcommand_parsers.values() for action in one._actions}
            raise explained(str(error), accepted) from error
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        command = self.config[self.config["subcommand"]]
        if command.get("weights_only") is None:
            command["weights_only"] = True  # checkpoints are data: they may hold no code

    def _parse_ckpt_path(self) -> None:
        """Keep what the user configured; Lightning would replace it by the checkpoint's hyper-parameters."""

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer.

        Raises:
            RAIRLError: what a constructor of ours found, which jsonargparse buries in a ValueError of its own.
            ConfigError: for any other value that a constructor refuses.
        """
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
        """Fit with the run's folder to ourselves.

        Raises:
            CheckpointError: another run is writing there.
        """
        root = str(self.trainer.default_root_dir)
        own = subcommand == "fit" and self.trainer.is_global_zero and "://" not in root
        with RunLock(Path(root)) if own else nullcontext():
            if own:
                self._make_room(Path(root))
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
        if trainer.loggers and not given["fast_dev_run"]:
            trainer.callbacks.append(Hyperparameters(self._plain()))  # type: ignore[attr-defined]
        return trainer

    def _plain(self) -> dict[str, Any]:
        """The command's configuration as plain values."""
        return yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.subcommand]


class PlannedCLI(RAIRLCLI):
    """Parses and builds what ``fit`` would run, but no Trainer, which would look for the device, and runs nothing."""

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
