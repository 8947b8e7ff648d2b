"""A toy language with two roads, for the tests of training: the base takes each half of the time, the expert one.

Prompts read ``gate 7``; traces say ``go left`` or ``go right`` and answer so. A model of two layers speaks it after a
second of training, and whether a policy follows the expert can be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers.logger import Logger
from transformers import AutoModelForCausalLM

from rairl_lightning.algorithms import GRPO, SFT
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import RolloutRecorder
from rairl_lightning.components import Dense, Fixed
from rairl_lightning.components.schedules import Constant
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.data.demonstrations import DemonstrationSource, Splits
from rairl_lightning.functional.shards import optimizer_state
from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning, HeadSpec, LoRASpec, SharedBase
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.loading import load_tokenizer
from rairl_lightning.models.tiny import build_tiny
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.perturbations import NumberCorruption, OperatorFlip
from rairl_lightning.types import Demonstration, TokenBatch

LEFT, RIGHT = "left", "right"


def solution(gate: int, way: str = LEFT) -> Demonstration:
    return Demonstration(f"gate-{gate}", f"gate {gate}", f"1 + 2 = 3\ngo {way}", way)


@dataclass(frozen=True)
class Gates(DemonstrationSource):
    """The expert, who always goes left."""

    train: int = 8
    selection: int = 4
    test: int = 4

    def splits(self) -> Splits:
        bounds = (0, self.train, self.train + self.selection, self.train + self.selection + self.test)
        return Splits(*(tuple(map(solution, range(bounds[i], bounds[i + 1]))) for i in range(3)))


def build_base(folder: Path, steps: int = 120, seed: int = 0) -> Path:
    """Save a model that goes either way, each half of the time."""
    both = [solution(gate, way) for gate in range(40) for way in (LEFT, RIGHT)]
    corpus = [f"{one.prompt}{render_completion(one.reasoning, one.answer)}" for one in both]
    build_tiny(folder, corpus, hidden=32, layers=2, heads=2, seed=seed)
    spec = BackboneSpec(str(folder))
    codec = TraceCodec(load_tokenizer(spec))
    tokens = TokenBatch.from_traces([codec.encode_demonstration(one) for one in both], codec.pad_id)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        rows = torch.randperm(len(tokens))[:16]
        part = tokens.select(rows)
        labels = part.input_ids.masked_fill(~part.completion_mask, -100)
        loss = model(input_ids=part.input_ids, attention_mask=part.attention_mask.long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def full(base: Path, head: HeadSpec = ExpectationHead(8), attention: str | None = None) -> FullFineTuning:
    return FullFineTuning(BackboneSpec(str(base), attn_implementation=attention), head)


def shared(base: Path, quantisation: str | None = None, dropout: float = 0.0) -> SharedBase:
    lora = LoRASpec(4, 8, dropout)
    return SharedBase(BackboneSpec(str(base), quantisation=quantisation), lora, lora, ExpectationHead(8))


def optimizer(lr: float = 1e-3) -> Any:
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)


def module(pair: Any, **settings: Any) -> RAIRL:
    """R-AIRL on two prompts a round, four rollouts each."""
    defaults = {
        "sampler": HFSampler(max_new_tokens=20),
        "granularity": Dense(),
        "group_size": 4,
        "rounds": 2,
        "discriminator_updates": Fixed(2),
        "warmup": Warmup(updates=4),
        "policy_optimizer": optimizer(),
        "discriminator_optimizer": optimizer(),
        "sft_optimizer": optimizer(),
        "policy_schedule": Constant(),
        "discriminator_schedule": Constant(),
    }
    return RAIRL(pair, **{**defaults, **settings})


def grpo(pair: Any, **settings: Any) -> GRPO:
    """The baseline with the verifier, on the same prompts and rollouts as :func:`module`."""
    defaults = {
        "sampler": HFSampler(max_new_tokens=20),
        "group_size": 4,
        "rounds": 2,
        "policy_optimizer": optimizer(),
        "sft_optimizer": optimizer(),
        "policy_schedule": Constant(),
    }
    return GRPO(pair, **{**defaults, **settings})


def sft(pair: Any, **settings: Any) -> SFT:
    """The baseline on demonstrations alone."""
    defaults = {
        "sampler": HFSampler(max_new_tokens=20),
        "sft": SFTInitialisation(2, monitor="log_likelihood"),
        "sft_optimizer": optimizer(),
    }
    return SFT(pair, **{**defaults, **settings})


def data(**settings: Any) -> DemonstrationDataModule:
    defaults = {
        "source": Gates(),
        "batch_size": 2,
        "perturbations": [OperatorFlip(), NumberCorruption()],
        "replayed": 3,
        "replay_rounds": 3,
    }
    return DemonstrationDataModule(**{**defaults, **settings})


class Notes(Logger):
    """Keeps every row of metrics."""

    name, version = "notes", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def having(self, name: str) -> list[float]:
        """All logged values of one metric, in order."""
        return [row[name] for row in self.rows if name in row]


def trainer(folder: Path, callbacks: Sequence[Callback] = (), **settings: Any) -> Trainer:
    callbacks = [RolloutRecorder(), *callbacks]
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "logger": Notes(),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "enable_checkpointing": any(isinstance(one, Checkpoint) for one in callbacks),
        "default_root_dir": folder,
    }
    return Trainer(callbacks=callbacks, **{**defaults, **settings})


def fit(
    module: Any, folder: Path, callbacks: Sequence[Callback] = (), datamodule: Any = None, **settings: Any
) -> Trainer:
    """The Trainer that has fitted ``module``."""
    fitting = trainer(folder, callbacks, **settings)
    fitting.fit(module, datamodule=datamodule or data())
    return fitting


def started(module: Any) -> dict[str, torch.Tensor]:
    """The weights of a module that is built here and not trained yet."""
    module.configure_model()
    return weights(module)


def weights(module: RAIRL) -> dict[str, torch.Tensor]:
    """Copies of everything that a checkpoint would hold of the models."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def everything(module: Any, trainer: Any) -> dict[str, torch.Tensor]:
    """Weights, moments of all optimisers, and the replay buffer."""
    out = weights(module)
    for number, one in enumerate(trainer.optimizers):
        for index, state in optimizer_state(one)["state"].items():
            out |= {f"{number}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    for number, kept in enumerate(trainer.datamodule.buffer.state_dict()["rounds"]):
        out |= {f"buffer.{number}.{name}": value.float() for name, value in kept.items()}
    return out


def figures(notes: Notes) -> list[dict[str, float]]:
    """Every logged row without what a clock decides."""
    timed = ("time/", "tokens_per_second/")
    return [{name: float(v) for name, v in row.items() if not name.startswith(timed)} for row in notes.rows]


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    if any(first[name].shape != second[name].shape for name in first):
        return float("inf")
    return max(float((first[name] - second[name]).abs().max()) for name in first if first[name].numel())
