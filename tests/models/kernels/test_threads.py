"""Little work gets one thread where another would have to be woken, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rairl_lightning.models.kernels.threads import WORTH_A_THREAD, few_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("policy", "spins", "products", "threads"),
    [
        ("PASSIVE", None, WORTH_A_THREAD, 1),
        ("passive", None, 1, 1),
        ("PASSIVE", None, WORTH_A_THREAD + 1, 2),
        ("ACTIVE", None, 1, 2),
        ("PASSIVE", "20000", 1, 2),
    ],
)
def test_threads_are_those_that_pay(
    policy: str, spins: str | None, products: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    if spins is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", spins)
    with few_threads(products):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with pytest.raises(ValueError), few_threads(1):
        raise ValueError
    assert torch.get_num_threads() == 2
