"""The compiled norm against its equation in float64."""

from __future__ import annotations

import pytest
import torch
from compiled import needed, same_for_every_number_of_threads
from torch import Tensor

from rairl_lightning.native import blocks

pytestmark = needed
CLOSE = {"atol": 2e-6, "rtol": 2e-6}
EPSILON = 1e-3


def reference(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, f and ∂x, by the equation and autograd."""
    x = x.double().requires_grad_()
    factors = 1 / torch.sqrt((x * x).mean(-1) + EPSILON)
    y = x * factors[..., None] * weight.double()
    return y.detach(), factors.detach(), torch.autograd.grad(y, x, gradient.double())[0]


def ours(gradient: Tensor, x: Tensor, weight: Tensor, threads: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    y, factors = blocks.norm(x, weight, EPSILON, threads)
    return y, factors, blocks.norm_backward(gradient, x, weight, factors, threads)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 8), (2, 5, 19), (1, 4, 576), (0, 8)])
def test_it_is_the_equation(shape: tuple[int, ...]) -> None:
    numbers = torch.randn(shape), torch.randn(shape), torch.randn(shape[-1])
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        torch.testing.assert_close(one.double(), other, **CLOSE)


def test_the_tolerance_tells_one_of_a_hundred_thousand() -> None:
    numbers = torch.randn(3, 64), torch.randn(3, 64), torch.randn(64)
    for one, other in zip(ours(*numbers), reference(*numbers), strict=True):
        with pytest.raises(AssertionError):
            torch.testing.assert_close(1.00001 * one.double(), other, **CLOSE)


def test_rows_in_any_layout() -> None:
    x, weight = torch.randn(6, 5).t(), torch.randn(6)
    torch.testing.assert_close(blocks.norm(x, weight, EPSILON, 1)[0].double(), reference(x, x, weight)[0], **CLOSE)


def test_what_is_no_number_stays_in_its_row() -> None:
    x = torch.randn(3, 21)
    x[1, 20] = torch.nan
    found = blocks.norm(x, torch.ones(21), EPSILON, 2)[0]
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    numbers = torch.randn(13, 37), torch.randn(13, 37), torch.randn(37)
    same_for_every_number_of_threads(lambda threads: ours(*numbers, threads))
