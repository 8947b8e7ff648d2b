"""Products with weights of 16 bits against those of float32."""

import pytest
import torch

from rairl_lightning.functional import halved

pytestmark = pytest.mark.skipif(not halved.available(), reason="this torch has no FBGEMM: nothing is halved")


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 5, 7), (16, 576, 192), (40, 64, 1000)])
def test_the_product_is_that_of_float32(rows: int, inputs: int, outputs: int) -> None:
    weight, bias = torch.randn(outputs, inputs).half().float(), torch.randn(outputs)
    x = torch.randn(rows, inputs)
    assert halved.lossless_shift([weight]) == 0
    exact = x.double() @ weight.double().t() + bias.double()
    error = (halved.HalvedLinear(weight, bias)(x) - exact).abs().max()
    assert error <= 1e-6 * inputs**0.5 * exact.abs().max()
    rounded = x.half().double() @ weight.double().t() + bias.double()
    assert (rounded - exact).abs().max() > error, "the input is not rounded"


def test_numbers_below_the_normal_ones_of_16_bits_are_kept() -> None:
    weight = torch.tensor([[2.0**-24, 3 * 2.0**-24, -(2.0**-15), 1.0]])
    assert torch.equal(halved.HalvedLinear(weight)(torch.eye(4)), weight.t())


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ([[1.0, 2.0**-10]], 0),
        ([[1.0, 1.0 + 2.0**-10]], 0),
        ([[1.0, 1.0 + 2.0**-11]], None),
        ([[1.0, 1e-6]], 0),  # rounded, by less than float32 rounds 1.0
        ([[2.0**-20, 2.0**-30]], 34),  # the largest becomes 2^14
        ([[1e-6, 3e-7]], None),
        ([[2.0**18, 3.0 * 2**10]], -4),
        ([[70000.0, 1.0]], None),
        ([[float("nan"), 1.0]], None),
        ([[float("inf"), 1.0]], None),
        ([[0.0, 0.0]], 0),
    ],
)
def test_what_is_lossless(weight: list[list[float]], expected: int | None) -> None:
    assert halved.lossless_shift([torch.tensor(weight)]) == expected


@pytest.mark.parametrize("size", [64, 1024])
@pytest.mark.parametrize("std", [0.02, 0.05, 0.5])
def test_weights_that_were_of_16_bits_are(size: int, std: float) -> None:
    """Large matrices of small numbers too: float16 alone does not reach down to bfloat16's smallest."""
    normal = torch.randn(size, size) * std
    weight, bias, x = normal.bfloat16().float(), torch.randn(size), torch.randn(4, size)
    shift = halved.lossless_shift([weight])
    assert shift is not None and halved.lossless_shift([normal]) is None
    exact = x.double() @ weight.double().t() + bias.double()
    error = (halved.HalvedLinear(weight, bias, shift)(x) - exact).abs().max()
    assert error <= 1e-6 * size**0.5 * exact.abs().max()
    assert (size == 64 or std == 0.5) == (shift == 0)


def test_matrices_side_by_side_share_the_power_that_suits_all() -> None:
    small, large = torch.full((1, 2), 2.0**-40 * 3), torch.full((1, 2), 3.0)
    assert halved.lossless_shift([small]) and halved.lossless_shift([large]) == 0
    assert halved.lossless_shift([small, large]) is None
    assert halved.lossless_shift([torch.cat([small, large])]) == 0, "beside the large ones they are rounding errors"
