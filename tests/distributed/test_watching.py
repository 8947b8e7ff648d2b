"""Of two processes the first shows the run, and it shows what one process alone would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import pytest
from alike import rairl
from watching import events, scalars, table, watch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Health, ")]


def test_the_first_of_two_processes_shows_the_run(runs: Any, base: Path, tmp_path: Path) -> None:
    def shown(rank: int) -> dict[str, int]:
        watched = watch(base, tmp_path / "run", module=rairl(base)(), strategy="ddp", devices=2)
        assert isinstance(watched.notes, gates.Notes)
        return {"images": len(watched.wandb.images), "texts": len(watched.wandb.tables)}

    first, second = runs.spread(shown, tmp_path)
    assert first["images"] > 0 < first["texts"] and second == {"images": 0, "texts": 0}
    assert len(list((tmp_path / "run" / "logs").glob("events.*"))) == 1
    watch(base, tmp_path / "alone", module=rairl(base)())
    curves, alone = scalars(tmp_path / "run" / "logs"), scalars(tmp_path / "alone" / "logs")
    assert curves.keys() == alone.keys() == table(tmp_path / "run" / "logs").keys()
    figures = [events(tmp_path / name / "logs").Tags()["images"] for name in ("run", "alone")]
    assert figures[0] == figures[1] != []
