from pathlib import Path

import pytest
from report_run import write_run


@pytest.fixture
def hand_made(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")
