"""Runs of R-AIRL and of GRPO that update the policy from the first step on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.algorithms.rounds import RoundsModule

SAME = 1e-5
Make = Callable[..., RoundsModule]
ALGORITHMS = pytest.mark.parametrize("make", [gates.module, gates.grpo])


def fit(module: RoundsModule, folder: Path, callbacks: Any = (), ckpt_path: Any = None, data: Any = None) -> Any:
    trainer = gates.trainer(folder, callbacks)
    trainer.fit(module, datamodule=data or gates.data(batch_size=4), ckpt_path=ckpt_path)
    return trainer


def made(make: Make, pair: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return make(pair, **{**({"warmup": Warmup(0)} if make is gates.module else {}), "rounds": 2, **settings})


def sgd(lr: float = 0.1) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)
