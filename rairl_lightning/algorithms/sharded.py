"""FSDP2 by Lightning's ModelParallelStrategy, with checkpoints that any number of processes can go on from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from lightning_utilities.core.imports import RequirementCache
from torch.optim import Optimizer

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.shards import load_optimizer_state, optimizer_state

OLDEST = "torch>=2.13"


class FSDP2(ModelParallelStrategy):
    """Blocks of all models, their gradients and optimiser states in shards over all processes: ``strategy: fsdp2``.

    A checkpoint is one file of whole tensors, that of a run of one process or under DDP.

    Args:
        process_group_backend: ``nccl`` or ``gloo``; None takes what suits the device.
        timeout: after which a process that waits for another gives up.

    Raises:
        ConfigError: torch is older than what this was tested with.
    """

    def __init__(self, process_group_backend: str | None = None, timeout: timedelta = default_pg_timeout) -> None:
        if not (recent := RequirementCache(OLDEST)):
            raise ConfigError(
                "FSDP2 is too young in this torch: how it treats groups of layers has changed from version to version.",
                expected=OLDEST,
                got=str(recent),
                remedy=f"python -m pip install '{OLDEST}', or use --trainer.strategy ddp",
            )
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        """Let the processes of all nodes be one dimension."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """No: the models are in shards before Lightning sets up anything."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Yes, by :meth:`load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's own, which gathers."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """The module's own, which takes its shards."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole tensors."""
        return optimizer_state(optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each optimiser's shards of the whole tensors."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            load_optimizer_state(optimizer, state)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """The file as it is."""
        return super(ModelParallelStrategy, self).load_checkpoint(checkpoint_path, weights_only)


StrategyRegistry.register("fsdp2", FSDP2, description="FSDP2 for models of rairl_lightning")
