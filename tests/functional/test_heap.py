"""Freed memory goes back to the system."""

from pathlib import Path

import pytest
import torch

from rairl_lightning.functional import heap

STATUS = Path("/proc/self/status")


def resident_kb() -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.skipif(not STATUS.exists() or heap._trim() is None, reason="needs Linux and glibc")
def test_holes_between_what_is_used_are_given_back() -> None:
    pieces = [torch.ones(2**14) for _ in range(2000)]  # 64 KB each: too small for mappings of their own
    kept, pieces = pieces[::2], []
    before = resident_kb()
    assert heap.give_back()
    given = before - resident_kb()
    assert given > 40_000 and all(bool((piece == 1).all()) for piece in kept)


def test_another_c_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", lambda: None)
    assert not heap.give_back()
