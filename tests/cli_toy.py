"""A two-weight model and its data for the command-line tests, importable by class path."""

import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule

from rairl_lightning.errors import ConfigError


class Loss:
    """Base that YAML swaps."""


@dataclass(frozen=True)
class Smoothed(Loss):
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError("Too smooth.", expected="0 <= label_smoothing < 0.5", got=self.label_smoothing)


@dataclass(frozen=True)
class Pairwise(Loss):
    ties: bool = True


@dataclass(frozen=True)
class Backbone:
    path_or_id: str = "tiny"
    dtype: str = "float32"


class Toy(LightningModule):
    """Trains by manual optimisation; may send its own process signals, or fill the disk, at one batch."""

    def __init__(
        self,
        loss: Loss = Smoothed(),
        backbone: Backbone = Backbone(),
        lr: float = 0.1,
        signals: tuple[str, ...] = (),
        during: str = "training",
        disk_full: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters()
        self.loss, self.lr, self.disk_full = loss, lr, disk_full
        self.signals, self.during = signals, during
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))

    def raise_signals(self, during: str, batch_idx: int) -> None:
        if during == self.during and batch_idx == 1 and self.current_epoch == 1:
            for name in self.signals:
                os.kill(os.getpid(), signal.Signals[name])

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.raise_signals("training", batch_idx)
        if self.disk_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.weight * batch).sum().tanh())
        optimizer.step()
        print(f"round {self.global_step} done", flush=True)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.raise_signals("validation", batch_idx)

    def on_train_end(self) -> None:
        torch.save(self.weight.detach(), Path(self.trainer.default_root_dir) / "final.pt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.weight], self.lr)


class Rounds(Callback):
    """Counts the rounds whose end it has seen, in the checkpoint."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_end(self, *_: object) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}


class ResumableLoader:
    """Fixed batches in order; continues behind those it has given out."""

    def __init__(self, batches: int) -> None:
        self.batches = torch.linspace(-1, 1, 2 * batches).reshape(-1, 1, 2)
        self.start = self.given = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, self.start = self.start, 0
        for index in range(start, len(self)):
            self.given = index + 1
            yield self.batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["given"] % len(self)


class ToyData(LightningDataModule):
    """Eight fixed batches."""

    def __init__(self, path: str | None = None, batches: int = 8) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.batches)

    val_dataloader = train_dataloader
