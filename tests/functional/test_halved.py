"""Products with weights of 16 bits against those of float32."""

import pytest
import torch

from rairl_lightning.functional import halved

pytestmark = pytest.mark.skipif(not halved.available(), reason="this torch has no FBGEMM: nothing is halved")


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 5, 7), (16, 576, 192), (40, 64, 1000)])
def test_the_product_is_that_of_float32(rows: int, inputs: int, outputs: int) -> None:
    weight, bias = torch.randn(outputs, inputs).half().float(), torch.randn(outputs)
    x = torch.randn(rows, inputs)
    assert halved.lossless(weight)
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
        ([[1.0, 2.0**-10]], True),
        ([[1.0, 1.0 + 2.0**-10]], True),
        ([[1.0, 1.0 + 2.0**-11]], False),
        ([[1.0, 1e-6]], True),  # rounded, by less than float32 rounds 1.0
        ([[1e-6, 3e-7]], False),
        ([[70000.0, 1.0]], False),
        ([[float("nan"), 1.0]], False),
        ([[0.0, 0.0]], True),
    ],
)
def test_what_is_lossless(weight: list[list[float]], expected: bool) -> None:
    assert halved.lossless(torch.tensor(weight)) is expected


def test_weights_that_were_of_16_bits_are() -> None:
    normal = torch.randn(64, 64) * 0.05
    assert halved.lossless(normal.bfloat16().float())
    assert not halved.lossless(normal)
