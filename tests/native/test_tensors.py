"""Which tensors compiled code may be given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rairl_lightning.native.tensors import plain, readable


class Other(torch.Tensor):
    """As a shard is: its numbers are not where it says."""


def test_only_what_lies_in_memory_as_it_says() -> None:
    number = torch.zeros(2)
    assert plain(number) and readable(number, nn.Parameter(number))
    other = number.as_subclass(Other)
    assert plain(other) and not readable(number, other)
    for wrong in (number.double(), number.bfloat16(), number.to("meta")):
        assert not plain(wrong) and not readable(number, wrong)
    with torch.autocast("cpu", torch.bfloat16):
        assert not plain(number) and not readable(number)


def test_not_while_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole model is compiled with them in tests/rollouts/test_static.py."""
    number = torch.zeros(2)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert plain(number) and not readable(number)
