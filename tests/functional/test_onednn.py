from __future__ import annotations

import pytest
import torch

from rairl_lightning.functional import onednn

SHAPES = [(1, 5, 3), (16, 64, 48), (2, 3, 1), (300, 17, 129)]


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("wide", [False, True], ids=["AVX2", "AVX-512"])
def test_both_layouts_compute_torchs_linear(
    wide: bool, rows: int, inputs: int, outputs: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "_wide_registers", lambda: wide)
    torch.manual_seed(0)
    x, weight = torch.randn(2, rows, inputs), torch.randn(outputs, inputs)
    bias = torch.randn(outputs) if with_bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double()).float()
    found = [onednn.linear(x, weight, bias), onednn.linear(x, weight.t().contiguous().t(), bias)]
    if onednn.available():
        found.append(onednn.PackedLinear(weight, bias)(x))
    for one in found:
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(AssertionError):  # the tolerance tells a slightly different weight
        torch.testing.assert_close(onednn.linear(x, 1.001 * weight, bias), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("rows", "wide", "ours"), [(255, False, True), (256, False, False), (256, True, True)])
def test_many_rows_are_torchs_where_its_own_product_is_faster(
    rows: int, wide: bool, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn.available():
        pytest.skip("this torch has no oneDNN operators")
    taken: list[int] = []
    apply = onednn._apply
    monkeypatch.setattr(onednn, "_wide_registers", lambda: wide)
    monkeypatch.setattr(onednn, "_apply", lambda x, *rest: taken.append(len(x)) or apply(x, *rest))
    onednn.linear(torch.ones(rows, 4), torch.ones(3, 4))
    assert taken == [rows] * ours


def test_other_dtypes_and_autocast_fall_back_to_torch() -> None:
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    assert not onednn.suits(x.double(), weight.double())
    torch.testing.assert_close(onednn.linear(x.double(), weight.double()), x.double() @ weight.double().t())
    with torch.autocast("cpu", torch.bfloat16):
        assert not onednn.suits(x, weight)
        assert onednn.linear(x, weight).dtype == torch.bfloat16


def test_a_packed_weight_is_a_copy() -> None:
    if not onednn.available():
        pytest.skip("this torch has no oneDNN operators")
    weight = torch.ones(2, 3)
    packed = onednn.PackedLinear(weight)
    weight.zero_()
    assert torch.equal(packed(torch.ones(1, 3)), torch.full((1, 2), 3.0))
