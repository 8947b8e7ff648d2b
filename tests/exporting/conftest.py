from pathlib import Path

import gates
import pytest
from exported import CASES, Export, save_random

from rairl_lightning.cli import main


@pytest.fixture(scope="session")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters with random weights, of every case, in runs of their own."""
    folder = tmp_path_factory.mktemp("trained")
    return {name: save_random(case.spec(base), case.reader, folder / name) for name, case in CASES.items()}


@pytest.fixture(scope="session")
def expectation(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a head that is not linear."""
    return save_random(gates.shared(base), CASES["interval"].reader, tmp_path_factory.mktemp("expectation") / "run")


@pytest.fixture
def export(tmp_path: Path) -> Export:
    def command(run: Path, *args: str, out: str = "out") -> int:
        return main(["export", str(run), f"--out={tmp_path / out}", "--device=cpu", *args])

    return command
