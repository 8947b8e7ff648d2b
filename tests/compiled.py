"""What tests of compiled code share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rairl_lightning.native import attending, blocks, decoding, vocabulary, why_not

needed = pytest.mark.skipif(not blocks.available(), reason=f"nothing is compiled here: {why_not('blocks')}")
"""For tests that call it."""


def without_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no compiler."""
    for module in (attending, blocks, decoding, vocabulary):
        monkeypatch.setattr(module, "library", lambda name: None)


def same_for_every_number_of_threads(compute: Callable[[int], tuple[Tensor, ...]]) -> None:
    """Bit by bit, and as often as it is computed."""
    expected = compute(1)
    for count in (2, 3, 5, 2):
        for one, other in zip(compute(count), expected, strict=True):
            assert torch.equal(one, other), f"{count} threads"
