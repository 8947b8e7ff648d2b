import pytest
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import masked_mean, masked_sum

NAN = float("nan")


def test_worked_example():
    values = torch.tensor([[1.0, 3.0, NAN], [NAN, NAN, NAN]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_sum(values, mask).item() == 4.0
    assert masked_mean(values, mask, dim=1).tolist() == [2.0, 0.0]


def test_all_ones_mask_is_no_mask(generator):
    values = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    mask = torch.ones(4, 7, dtype=torch.bool)
    torch.testing.assert_close(masked_mean(values, mask), values.mean())
    torch.testing.assert_close(masked_mean(values, mask, 1), values.mean(1))
    with pytest.raises(AssertionError):  # control: the tolerance tells the rows from the columns
        torch.testing.assert_close(masked_mean(values, mask, 0)[:4], values.mean(1))


def test_gradient_ignores_what_is_masked():
    values = torch.tensor([1.0, NAN, 2.0], requires_grad=True)
    masked_sum(values**2, torch.tensor([True, False, True])).backward()
    assert values.grad[[0, 2]].tolist() == [2.0, 4.0]
    assert values.grad[1] == 0 or values.grad[1].isnan()  # NaN * 0 in the square, never in a neighbour


def test_zero_is_a_value_not_padding():
    values, mask = torch.tensor([0.0, 4.0, 0.0]), torch.tensor([True, True, False])
    assert masked_mean(values, mask).item() == 2.0


def test_shapes_must_agree():
    with pytest.raises(DataError, match="mask and values differ"):
        masked_sum(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))
