from pathlib import Path

import gates
import pytest

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import AdapterCheckpoint


@pytest.fixture(scope="session")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"rounds": 1, "warmup": Warmup(4), "discriminator_optimizer": gates.optimizer(1e-2)}
    module = gates.module(gates.shared(base), **settings)
    gates.trainer(folder, [AdapterCheckpoint()]).fit(module, datamodule=gates.data())
    return folder
