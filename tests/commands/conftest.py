from pathlib import Path

import gates
import pytest
from short_runs import train


@pytest.fixture(scope="session")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    train(gates.shared(base), folder)
    return folder
