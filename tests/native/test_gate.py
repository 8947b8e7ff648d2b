"""The compiled gate against its equation in float64, over the whole range of the exponential."""

from __future__ import annotations

import pytest
import torch
from compiled import needed, same_for_every_number_of_threads
from torch import Tensor

from rairl_lightning.native import blocks

pytestmark = needed
CLOSE = {"atol": 1e-6, "rtol": 2e-6}


def reference(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, ∂g, ∂u and h once more, by the equation."""
    gradient, gate, up = gradient.double(), gate.double(), up.double()
    share = 1 / (1 + torch.exp(-gate))
    product = gate * share * up
    return product, gradient * up * (share + gate * share * (1 - share)), gradient * gate * share, product


def ours(gradient: Tensor, gate: Tensor, up: Tensor, threads: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return blocks.gate(gate, up, threads), *blocks.gate_backward(gradient.clone(), gate, up, threads)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (2, 8), (4, 33), (7, 96), (0, 8)])
def test_it_is_the_equation(shape: tuple[int, int]) -> None:
    numbers = 3 * torch.randn(3, *shape)
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        torch.testing.assert_close(one.double(), other, **CLOSE)


def test_the_tolerance_tells_one_of_a_hundred_thousand() -> None:
    numbers = 3 * torch.randn(3, 7, 96)
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        with pytest.raises(AssertionError):
            torch.testing.assert_close(1.00001 * one.double(), other, **CLOSE)


def test_no_gate_is_too_large() -> None:
    gate = torch.cat([torch.linspace(-120, 120, 2401), torch.tensor([-1e30, -1e4, -0.0, 1e-40, 1e4, 1e30])])
    numbers = torch.ones_like(gate), gate, torch.full_like(gate, 0.5)
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, **CLOSE)


def test_what_is_no_number_stays_none() -> None:
    numbers = torch.randn(3, 1, 21)
    numbers[0, 0, 2] = numbers[1, 0, 9] = numbers[2, 0, 20] = torch.nan  # in a vector, and in what is left of a row
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        assert torch.equal(one.isnan(), other.isnan())


def test_nothing_else_is_written_to() -> None:
    room, numbers = torch.full((3, 40), 7.0), torch.randn(3, 21)
    room[:, :21] = numbers
    gradient = room[0, :21]
    blocks.gate_backward(gradient, room[1, :21], room[2, :21], 2)
    assert not torch.equal(gradient, numbers[0])
    assert (room[:, 21:] == 7).all() and torch.equal(room[1:, :21], numbers[1:])


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    numbers = torch.randn(3, 37, 29)
    same_for_every_number_of_threads(lambda threads: ours(*numbers, threads))


def test_what_suits() -> None:
    x = torch.randn(3)
    assert blocks.suits(x, torch.nn.Parameter(x))
    assert not blocks.suits(x, x.double()) and not blocks.suits(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not blocks.suits(x)
