"""What several processes need from the trainer, asked before any data is read."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from rairl_lightning.algorithms.sharded import FSDP2
from rairl_lightning.errors import ConfigError


def require_strategy(trainer: Trainer) -> None:
    """Every process holds both players whole, or in shards that we have made.

    Raises:
        ConfigError: the strategy shards them by itself, or has an opinion of its own about gradients.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy | FSDP2):
        raise ConfigError(
            f"{type(strategy).__name__} cannot train here: it does not know which shards two players share.",
            expected="trainer.strategy: auto on one device, ddp or fsdp2 on several",
            got=type(strategy).__name__,
            remedy="use --trainer.strategy ddp, or fsdp2 for models that are too large for one device",
        )
    if isinstance(strategy, DDPStrategy) and strategy._ddp_comm_hook is not None:
        raise ConfigError(
            "A DDP communication hook would never be called: gradients are summed once an update, by us.",
            expected="no ddp_comm_hook",
            got=strategy._ddp_comm_hook,
            remedy="use --trainer.strategy ddp",
        )


def without_reducer(trainer: Trainer) -> AbstractContextManager[None]:
    """Keep DDP from averaging gradients after a backward pass made within.

    They are summed once an update instead (``functional.processes.sum_gradients``): DDP's reducer would wait for the
    other player's gradients, and for processes that make fewer passes.
    """
    strategy = trainer.strategy
    return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()
