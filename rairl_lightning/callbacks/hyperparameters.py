"""What runs are compared by: the settings of each, and how far it came. ``rairl fit`` adds it to every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.onlooker import Behind
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.callbacks.tensorboard import begin_at, write_session, write_session_end
from rairl_lightning.evaluation.settings import flattened

NUMBERS = (
    "seed_everything",
    "model.group_size",
    "model.rounds",
    "model.sft.epochs",
    "model.warmup.updates",
    "model.discriminator_batch",
    "model.policy_epochs",
    "model.policy_minibatches",
    "model.policy_optimizer.lr",
    "model.discriminator_optimizer.lr",
    "model.sft_optimizer.lr",
    "model.gradient_clip",
    "model.pair.policy_lora.r",
    "model.pair.discriminator_lora.r",
    "model.sampler.max_new_tokens",
    "data.batch_size",
    "data.perturbed_copies",
    "data.replayed",
)
TEXTS = (
    "model",
    "model.pair.backbone.path",
    "model.pair.backbone.quantisation",
    "model.pair.head",
    "model.granularity",
    "model.labelling",
    "model.verifier",
    "model.critic",
    "model.discriminator_loss",
    "model.discriminator_updates",
    "model.reward",
    "model.reward_penalty",
    "model.pooling",
    "model.advantage",
    "model.policy_loss",
    "model.expert_in_group",
    "model.sampler_correction",
    "model.policy_schedule",
    "data.source",
    "data.perturbations",
    "trainer.precision",
)
HEADLINES = (
    "selection/pass@1",
    "selection/rerank/random",
    "selection/rerank/reward",
    "selection/rerank/auroc",
    "selection/localise/reward_step",
)
"""Figures of the selection split, higher is better; none of the test split, which nobody is to choose by."""
RESTORATIONS = "health/restorations"


class Hyperparameters(Behind):
    """Tells every logger the settings once, and keeps the last and best figures as ``hp/…`` and ``hp/best/…``.

    TensorBoard's HPARAMS tab compares runs by them: a row a run, also where it was resumed, the same columns in every
    run whatever its algorithm. A run that goes on tells TensorBoard to forget what was logged behind its checkpoint.

    Args:
        config: of the run, as plain values; empty leaves the settings out.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = settings_of(config)
        self._best: dict[str, float] = {}
        self._logged: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what runs, where it was not said before."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.settings)
                continue
            if isinstance(pl_module, PairModule):
                begin_at(logger, pl_module.clock.batches)
            if self.settings:
                write_session(logger, self.settings, NUMBERS, TEXTS, metric_names())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the figures that are new."""
        self._headlines(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the last figures, and that the run came to its end."""
        self._headlines(trainer, pl_module)
        for logger in trainer.loggers:
            if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
                write_session_end(logger)

    def state_dict(self) -> dict[str, Any]:
        """The best figures so far."""
        return {"best": dict(self._best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._best = dict(state_dict["best"])

    def _headlines(self, trainer: Trainer, module: LightningModule) -> None:
        if not isinstance(module, RoundsModule):
            return
        logged = trainer.callback_metrics
        known = {name: float(logged[name]) for name in HEADLINES if name in logged and logged[name].isfinite()}
        self._best |= {name: max(value, self._best.get(name, value)) for name, value in known.items()}
        metrics = {last_of(name): value for name, value in known.items()}
        metrics |= {best_of(name): self._best[name] for name in known}
        if RESTORATIONS in logged:
            metrics[last_of(RESTORATIONS)] = float(logged[RESTORATIONS])
        new = {name: value for name, value in metrics.items() if self._logged.get(name) != value}
        self._logged |= new
        if new:
            log_once(trainer, module, new)


def settings_of(config: Mapping[str, Any]) -> dict[str, float | str]:
    """What a person compares runs by, numbers as numbers; a part with its own settings is one text.

    >>> part = {"class_path": "a.Interval", "init_args": {"every": 15}}
    >>> settings_of({"seed_everything": 3, "model": {"granularity": part}})
    {'seed_everything': 3, 'model.granularity': 'Interval(every=15)'}
    """
    flat = flattened(config)
    read = {**{key: _number(flat.get(key)) for key in NUMBERS}, **{key: _described(key, flat) for key in TEXTS}}
    return {key: value for key, value in read.items() if value is not None}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if value.is_integer() else value


def _described(key: str, flat: Mapping[str, str]) -> str | None:
    """A part as ``Name(setting=value, …)``, a list of parts by their names."""
    if key == "model":
        return flat.get(key)
    inner = {one.removeprefix(f"{key}."): flat[one] for one in flat if one.startswith(f"{key}.")}
    if key not in flat:
        return ", ".join(name for name, value in inner.items() if name == value) or None
    settings = ", ".join(f"{name}={value}" for name, value in inner.items() if value != "null")
    return (f"{flat[key]}({settings})" if settings else flat[key]) if flat[key] != "null" else None


def metric_names() -> list[str]:
    """Every ``hp/…`` that a run may log, so that the tab has the same columns whatever a run measures."""
    names = [name for headline in HEADLINES for name in (last_of(headline), best_of(headline))]
    return [*names, last_of(RESTORATIONS)]


def last_of(name: str) -> str:
    """What the last value of a metric is called."""
    return f"hp/{name.partition('/')[2]}"


def best_of(name: str) -> str:
    """What its best value is called."""
    return f"hp/best/{name.partition('/')[2]}"
