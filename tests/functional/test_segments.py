import pytest
import reference_critic as reference
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import (
    next_point,
    previous_point,
    reward_grid,
    segment_change,
    segment_mean,
    segment_sum,
)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("every", [None, 1, 3])
def test_agrees_with_the_loops(ragged, generator, side, every):
    mask = ragged(side=side)
    grid = reward_grid(mask, every=every)
    values = torch.randn(mask.shape, dtype=torch.float64, generator=generator)
    arrays = [x.numpy() for x in (values, grid, mask)]
    for ours, theirs in (
        (segment_sum, reference.segment_sum(*arrays)),
        (segment_mean, reference.segment_sum(*arrays, mean=True)),
        (segment_change, reference.segment_change(*arrays)),
    ):
        torch.testing.assert_close(ours(values, grid, mask), torch.from_numpy(theirs))
        shifted = ours(values.roll(1, dims=1), grid, mask)
        if shifted.any():
            with pytest.raises(AssertionError):  # control: one column off
                torch.testing.assert_close(shifted, torch.from_numpy(theirs))


def test_dense_segments_are_tokens(ragged, generator):
    mask = ragged()
    values = torch.randn(mask.shape, generator=generator)
    assert torch.equal(segment_sum(values, mask, mask), values * mask)
    assert torch.equal(segment_mean(values, mask, mask), values * mask)


def test_sums_keep_the_total(ragged, generator):
    mask = ragged()
    values = torch.randn(mask.shape, dtype=torch.float64, generator=generator)
    sums = segment_sum(values, reward_grid(mask, every=4), mask)
    torch.testing.assert_close(sums.sum(1), (values * mask).sum(1))


def test_a_grid_that_stops_early_leaves_the_rest_out():
    mask = torch.ones(1, 4, dtype=torch.bool)
    grid = torch.tensor([[False, True, False, False]])
    assert segment_sum(torch.arange(1.0, 5).unsqueeze(0), grid, mask).tolist() == [[0, 3, 0, 0]]
    assert next_point(grid, mask).tolist() == [[1, 1, 4, 4]]
    assert previous_point(grid).tolist() == [[-1, -1, 1, 1]]


def test_what_lies_outside_is_never_read(ragged, generator):
    mask = ragged()
    grid = reward_grid(mask, every=3)
    values = torch.randn(mask.shape, generator=generator)
    for function, counts in ((segment_sum, mask), (segment_mean, mask), (segment_change, grid)):
        ours = function(torch.where(counts, values, torch.nan), grid, mask)
        assert torch.equal(ours, function(values, grid, mask))


def test_gradcheck(ragged, generator):
    mask = ragged(rows=3)
    grid = reward_grid(mask, every=3)
    leaf = torch.randn(mask.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    for function in (segment_sum, segment_mean, segment_change):
        assert torch.autograd.gradcheck(lambda values, f=function: f(values, grid, mask), (leaf,))


def test_long_and_empty_rows():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    values = torch.full((1, 4096), 1e4)
    assert segment_sum(values, reward_grid(mask), mask)[0, -1].item() == pytest.approx(4096e4, rel=1e-5)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert not segment_mean(torch.ones(2, 3), nothing, nothing).any()


def test_shapes_are_one():
    ones = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(DataError, match="shape"):
        segment_sum(torch.zeros(1, 3), ones, ones)
