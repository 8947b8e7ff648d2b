"""Short runs of the toy language that Health watches, and which collapse when a test says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import (
    Health,
)
from rairl_lightning.callbacks.health import History, Level, Sign
from rairl_lightning.components import Fixed
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler

RATE, FACTOR = 1e-3, 0.3
QUICK = {"sampler": HFSampler(max_new_tokens=8), "discriminator_updates": Fixed(1), "warmup": Warmup(2)}
"""Of rounds that no sign reads: half as long."""
expected_collapse = pytest.mark.filterwarnings("ignore:Health, ")


@dataclass(frozen=True)
class At(Sign):
    """Looks as it is told to at the end of given rounds."""

    rounds: tuple[int, ...] = ()
    warns: tuple[int, ...] = ()
    metric: str = "round"
    warning: float = 0.0
    collapse: float = 0.0
    patience: int = 1

    def level(self, value: float, history: History) -> Level:
        return Level.COLLAPSE if value in self.rounds else Level.WARNING if value in self.warns else Level.HEALTHY

    def beyond(self, limit: float, value: float, history: History) -> bool:
        raise NotImplementedError

    def expected(self, history: History) -> str:
        return "another round"


def state_of(module: RAIRL, trainer: Any) -> dict[str, Tensor]:
    """Weights, moments of both players, and the replay buffer; copies."""
    out = gates.weights(module)
    for name in ("policy", "discriminator"):
        for index, state in module.players[name].optimizer.state_dict()["state"].items():
            out |= {f"{name}.{index}.{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    for number, kept in enumerate(trainer.datamodule.buffer.state_dict()["rounds"]):
        out |= {f"buffer.{number}.{key}": value.float() for key, value in kept.items()}
    return out


class AfterHealth(Checkpoint):
    """Notes the state that a checkpoint of each round would hold, and may save it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        self.states[pl_module.clock.round] = state_of(pl_module, trainer)
        if self.folder is not None:
            trainer.save_checkpoint(self.folder / f"{pl_module.clock.round}.ckpt")


@dataclass
class Run:
    module: RAIRL
    trainer: Any
    health: Health
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)


def run(
    base: Path,
    folder: Path,
    health: Health,
    rounds: int = 10,
    saved: bool = False,
    ckpt_path: Path | None = None,
    more: Sequence[Any] = (),
    pair: Any = gates.full,
    read: bool = False,
    **settings: Any,
) -> Run:
    """Train; ``read`` says whether a sign looks at what the rounds log."""
    torch.manual_seed(0)
    settings = {**({} if read else QUICK), **settings}
    after = AfterHealth(folder if saved else None)
    module = gates.module(pair(base), **{"rounds": rounds, "policy_optimizer": gates.optimizer(RATE), **settings})
    trainer = gates.trainer(folder, [health, after, *more])
    trainer.fit(module, datamodule=gates.data(replay_rounds=50), ckpt_path=ckpt_path)
    return Run(module, trainer, health, after.states)


def scripted(*rounds: int, warns: tuple[int, ...] = (), **settings: Any) -> Health:
    """A snapshot is due every third round and healthy two rounds later."""
    defaults = {"every_n_rounds": 3, "confirm": 2, "policy_rate_factor": FACTOR}
    return Health([At(rounds, warns)], **{**defaults, **settings})
