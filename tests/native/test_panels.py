"""The layout of weights, read back number by number."""

from __future__ import annotations

import pytest
import torch

from rairl_lightning.native import decoding, why_not

pytestmark = pytest.mark.skipif(not decoding.available(), reason=f"no compiled code here: {why_not('decoding')}")

DEPTH = 256  # of cpp/products.h


def unpacked(panels: torch.Tensor, kind: int, outputs: int, inputs: int) -> torch.Tensor:
    width = decoding.padded(1)
    count, found = -(-outputs // width), torch.full((outputs, inputs), torch.nan)
    if kind == decoding.BFLOAT16:  # pairs of outputs half a panel apart
        panels = panels.view(-1, width // 2, 2).transpose(1, 2).reshape(-1).view(torch.bfloat16)
    elif kind == decoding.FLOAT16:
        panels = panels.view(torch.float16)
    numbers, at = panels.float(), 0
    for first in range(0, inputs, DEPTH):
        depth = min(DEPTH, inputs - first)
        block = numbers[at : at + count * depth * width].view(count, depth, width)
        at += block.numel()
        found[:, first : first + depth] = block.transpose(1, 2).reshape(-1, depth)[:outputs]
        assert (block.transpose(1, 2).reshape(-1, depth)[outputs:] == 0).all(), "what fills the last panel"
    assert at == len(numbers)
    return found


@pytest.mark.parametrize("shape", [(1, 1), (16, 256), (33, 257), (70, 600)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_every_number_is_there(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = torch.randn(shape).to(dtype).float()
    weight[0, 0] = {torch.bfloat16: 1 + 2**-7, torch.float16: 1 + 2**-10, torch.float32: 1 + 2**-20}[dtype]
    for laid_out in (weight, weight.t().contiguous().t()):
        panels, kind = decoding.pack(laid_out)
        assert torch.equal(unpacked(panels, kind, *shape), weight)
        assert kind == {torch.bfloat16: decoding.BFLOAT16, torch.float16: decoding.FLOAT16}.get(dtype, decoding.FLOAT32)


@pytest.mark.parametrize("place", [(0, 0), (-1, -1), (40, 300)], ids=str)
def test_one_number_that_16_bits_do_not_hold_is_enough(place: tuple[int, int]) -> None:
    weight = torch.randn(70, 600).bfloat16().float()
    assert decoding.pack(weight)[1] == decoding.BFLOAT16
    weight[place] = 1 + 2**-20
    panels, kind = decoding.pack(weight)
    assert kind == decoding.FLOAT32 and torch.equal(unpacked(panels, kind, 70, 600), weight)
    with pytest.raises(ValueError, match="without loss"):
        decoding.pack(weight, [decoding.BFLOAT16, decoding.FLOAT16])


@pytest.mark.parametrize("number", [1e30, 2.0**-24 * 1.5, 1e-40, torch.inf, -0.0, torch.nan], ids=str)
def test_numbers_at_the_ends(number: float) -> None:
    weight = torch.full((3, 5), 1 + 2**-10)  # no bfloat16
    weight[1, 2] = number
    panels, kind = decoding.pack(weight)
    assert torch.equal(unpacked(panels, kind, 3, 5).nan_to_num(7.0), weight.nan_to_num(7.0))
    assert torch.equal(unpacked(panels, kind, 3, 5).signbit(), weight.signbit())
    assert (kind == decoding.FLOAT16) == (number in (torch.inf, 0.0))


def test_room_and_padding_are_multiples() -> None:
    width, unit = decoding.padded(1), decoding.key_room(1)
    assert [decoding.padded(n) for n in (width - 1, width, width + 1)] == [width, width, 2 * width]
    assert [decoding.key_room(n) for n in (0, unit, unit + 1)] == [0, unit, 2 * unit]


@pytest.mark.parametrize("rows", [1, 6, 7, 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_product(rows: int, dtype: torch.dtype) -> None:
    weight, x = torch.randn(70, 600).to(dtype).float(), torch.randn(rows, 600)
    found, expected = decoding.PanelLinear(weight)(x), (x.double() @ weight.double().t()).float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    with pytest.raises(AssertionError):  # the tolerance tells weights that differ in one number by a hundredth
        weight[3, 5] += 1e-2
        torch.testing.assert_close(decoding.PanelLinear(weight)(x), expected, atol=1e-4, rtol=0)
