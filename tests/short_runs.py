"""A run of a few updates, with its checkpoint and adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import torch

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.module import RAIRL
from rairl_lightning.types import TokenBatch


def train(spec: Any, folder: Path, **settings: Any) -> RAIRL:
    optimizer = gates.optimizer(1e-2)
    module = gates.module(spec, **{"rounds": 1, "warmup": Warmup(4), "discriminator_optimizer": optimizer, **settings})
    limits = {"limit_val_batches": 1.0} if "sft" in settings else {}
    gates.trainer(folder, [AdapterCheckpoint()], **limits).fit(module, datamodule=gates.data())
    return module


def some_tokens(module: Any) -> TokenBatch:
    codec = module.codec
    traces = [codec.encode_demonstration(gates.solution(gate, way)) for gate in (3, 17) for way in ("left", "right")]
    return TokenBatch.from_traces(traces, codec.pad_id)


def edit_checkpoint(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    checkpoint = torch.load(file, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, file)
    return file
