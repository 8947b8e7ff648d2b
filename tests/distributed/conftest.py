"""Runs on two processes that are forked from the test's own, so that nothing is imported again."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from torch import multiprocessing


def spread(function: Callable[..., None], folder: Path, processes: int = 2) -> list[Any]:
    """What ``function`` saves in each process: it is called with the rank, and returns what is to be saved."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one(rank: int) -> None:
        names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        values = (rank, rank, 0, processes, "127.0.0.1", port)
        os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
        torch.save(function(rank), folder / f"rank-{rank}.pt")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.start_processes(one, nprocs=processes, start_method="fork")
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(processes)]


def trained(
    module: Callable[[], Any], folder: Path, data: Callable[[], Any] = gates.data, **settings: Any
) -> dict[str, Any]:
    """A run of this process: weights, moments and replay, and every row that was logged but times."""
    torch.manual_seed(0)
    callbacks, path = settings.pop("callbacks", list)(), settings.pop("ckpt_path", None)
    fitted, trainer = module(), gates.trainer(folder, callbacks, **settings)
    trainer.fit(fitted, datamodule=data(), ckpt_path=path)
    return {"state": gates.everything(fitted, trainer), "rows": gates.figures(trainer.logger)}


def on_two(module: Callable[[], Any], folder: Path, devices: int = 2, **settings: Any) -> list[dict[str, Any]]:
    """:func:`trained` in two processes, or more."""
    settings = {"strategy": "ddp", "devices": devices, **settings}
    return spread(lambda rank: trained(module, folder / "run", **settings), folder, devices)


class Runs:
    spread, trained, on_two = staticmethod(spread), staticmethod(trained), staticmethod(on_two)


@pytest.fixture(scope="session")
def runs() -> type[Runs]:
    return Runs
