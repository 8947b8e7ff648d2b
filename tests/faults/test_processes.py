"""One of two processes is killed: the other ends with a message instead of waiting, and both go on later."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import gates
import pytest
from faulty_runs import Killed, Marks, final, fit
from lightning import Callback

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.errors import TrainingError

pytestmark = pytest.mark.filterwarnings("ignore:No whole checkpoint")
TWO = {"strategy": "ddp", "devices": 2}
MOMENTS = {"sft": (2, 0.0), "warm-up": (4, 0.1), "adversarial": (6, 0.3)}


def build(base: Path) -> Any:
    """Four steps of SFT, one of warm-up, three rounds."""
    sft = SFTInitialisation(1, monitor="log_likelihood")
    return gates.module(gates.full(base), sft=sft, warmup=Warmup(2), rounds=3, max_tokens_per_microbatch=150)


def member(rank: int, port: int, base: Path, folder: Path, callbacks: list[Callback]) -> None:
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, 0, 2, "127.0.0.1", port)
    os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
    fit(base, folder, Marks(), callbacks, build, **TWO)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def together(processes: Any, base: Path, folder: Path, killed: int = -1, callbacks: Any = ()) -> list[tuple[int, str]]:
    """Exit code and words of each process."""
    port = free_port()
    own = [list(callbacks) if rank == killed else [] for rank in range(2)]
    started = [processes.overheard(member, rank, port, base, folder, own[rank]) for rank in range(2)]
    return [processes.told(process) for process in started]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_is_killed(base: Path, tmp_path: Path, processes: Any, fault: Any, killed: int) -> None:
    assert [code for code, _ in together(processes, base, tmp_path / "whole")] == [0, 0]
    expected = final(tmp_path / "whole")["state"]
    for phase, moment in MOMENTS.items():
        folder = tmp_path / phase
        with fault("a process of two killed"):
            ends = together(processes, base, folder, killed, [Killed(moment, 0.2)])
            assert ends[killed][0] == -signal.SIGKILL
            code, said = ends[1 - killed]
            assert code == TrainingError.exit_code, said
            assert "Another process of this run is gone" in said and "Traceback" not in said, said
            assert [code for code, _ in together(processes, base, folder)] == [0, 0]
            assert gates.largest_difference(final(folder)["state"], expected) == 0
