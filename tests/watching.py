"""A run of four rounds with every logger, and what was logged, read back."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gates
from lightning.pytorch.loggers.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import (
    AdapterCheckpoint,
    EvaluationTable,
    Figures,
    Health,
    Localisation,
    Reranking,
    TraceLogger,
)
from rairl_lightning.callbacks.hyperparameters import Hyperparameters
from rairl_lightning.cli_loggers import default_loggers

CONFIG = {
    "seed_everything": 7,
    "model": {
        "class_path": "rairl_lightning.module.RAIRL",
        "init_args": {
            "group_size": 4,
            "policy_optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}},
            "granularity": {"class_path": "rairl_lightning.components.Interval", "init_args": {"every": 15}},
        },
    },
    "data": {
        "perturbations": [
            {"class_path": "a.OperatorFlip"},
            {"class_path": "a.NumberCorruption", "init_args": {"by": 2}},
        ]
    },
}


class FakeWandb(gates.Notes):
    """The methods of Lightning's ``WandbLogger``, as its documentation has them."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[str, list[Any], int | None]] = []
        self.tables: list[tuple[str, list[str], list[list[Any]], int | None]] = []
        self.hyperparameters: list[dict[str, Any]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.images.append((key, images, step))

    def log_text(
        self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: int | None = None
    ) -> None:
        self.tables.append((key, columns, data, step))

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.hyperparameters.append(params)


@dataclass
class Watched:
    """A run's folder, and the loggers that keep what they are given."""

    folder: Path
    trainer: Any = None
    wandb: FakeWandb = field(default_factory=FakeWandb)
    notes: gates.Notes = field(default_factory=gates.Notes)
    loggers: list[Logger] = field(default_factory=list)


def watch(base: Path, folder: Path, ckpt_path: Path | None = None, module: Any = None, **settings: Any) -> Watched:
    """Train, from a checkpoint on."""
    watched = Watched(folder)
    watched.loggers = [*default_loggers(str(folder), "fit"), watched.wandb, watched.notes]
    callbacks = [
        EvaluationTable(),  # in a wrong order: they find their places
        Figures(),
        Hyperparameters(CONFIG),
        Reranking(2, 3, 4, temperature=1.0),
        Localisation(2, 4, 5),
        TraceLogger(2, 3),
        Health(),
        AdapterCheckpoint(2, keep=2),
    ]
    watched.trainer = gates.trainer(folder, callbacks, logger=watched.loggers, **settings)
    module = module or gates.module(gates.full(base), warmup=Warmup(4), rounds=4)
    watched.trainer.fit(module, datamodule=gates.data(), ckpt_path=ckpt_path)
    return watched


def events(folder: Path) -> EventAccumulator:
    """All event files of a folder, as TensorBoard reads them."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of the event files, without those that are not finite."""
    read = events(folder)
    return {
        tag: [(one.step, one.value) for one in read.Scalars(tag) if math.isfinite(one.value)]
        for tag in read.Tags()["scalars"]
    }


def table(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of ``metrics.csv``."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["step"] for row in rows}) == len(rows), "a line a step"
    columns = {name for row in rows for name in row} - {"step"}
    found = {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in columns}
    return {name: [pair for pair in pairs if math.isfinite(pair[1])] for name, pairs in found.items()}
