"""What every test shares: no network, no GPU, a fixed seed."""

import os
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # on a busy machine a deadline tests the machine
settings.load_profile("untimed")

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: a second thread only waits, and on a busy core for long
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # bitsandbytes compiles its 4-bit kernels anew for every shape

sys.path.insert(0, str(Path(__file__).parent))  # for the toys: cli_toy, gates

LOCAL = ("127.0.0.1", "::1", "localhost", "")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test; two gloo processes may talk to each other."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in (*LOCAL, socket.gethostname()):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same global seed and leaves torch's generator and its threads as they were."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed writes down the stack for a GPU to come: 1 ms a test
        yield
    assert torch.get_num_threads() == threads, "processes forked from this one would wait for threads they do not have"


def pytest_collection_finish(session: pytest.Session) -> None:
    """What Lightning does once and for all at its import, and what it does too often."""
    if any(one.path.name.startswith("test_cli") for one in session.items):
        import_module("lightning.pytorch")  # logs to the stderr of now: that of a test would be closed after it
    if session.config.option.markexpr.startswith("not slow"):  # the slow tests have Lightning as it is
        _move_figures_once()


def _move_figures_once() -> None:
    """Lightning moves a logged figure to its device each time, copying all that it holds: a fifth of a small round."""
    result = sys.modules.get("lightning.pytorch.trainer.connectors.logger_connector.result")
    if result is None:
        return
    move = result._ResultMetric.to

    def moved(self: Any, device: Any, **settings: Any) -> Any:
        there = self.is_tensor and str(self.value.device) == str(device)
        return self if there else move(self, device, **settings)

    result._ResultMetric.to = moved


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers that speaks the toy language of ``gates``; see there."""
    import torch
    from gates import build_base

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_base(tmp_path_factory.mktemp("base"))
