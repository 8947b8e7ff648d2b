"""Runs of a few small rounds, whose ends are compared bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import torch
from torch import Tensor

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.components import Fixed
from rairl_lightning.module import RAIRL

ROUNDS = 6  # of four in an epoch


def small(spec: Any, **settings: Any) -> RAIRL:
    """Two steps of warm-up, and an update of each player a round."""
    return gates.module(spec, **{"rounds": ROUNDS, "warmup": Warmup(2), "discriminator_updates": Fixed(1), **settings})


def a_module(spec: Any, **settings: Any) -> RAIRL:
    torch.manual_seed(0)
    return small(spec, **settings)


def run(
    module: RAIRL, folder: Path, callbacks: Any = (), ckpt_path: Any = None, **settings: Any
) -> tuple[dict[str, Tensor], Any]:
    trainer = gates.trainer(folder, callbacks, **settings)
    trainer.fit(module, datamodule=gates.data(), ckpt_path=ckpt_path)
    return gates.everything(module, trainer), trainer
