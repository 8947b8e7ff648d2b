import pytest
import reference_grid as reference
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import backfill, reward_grid, segment_ids


@pytest.fixture
def ends(generator):
    return torch.rand(6, 17, generator=generator) < 0.3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("every", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("steps", [True, False])
def test_agrees_with_the_loops(ragged, ends, generator, side, every, steps):
    mask = ragged(side=side)
    grid = reward_grid(mask, every=every, ends=ends if steps else None)
    expected = reference.reward_grid(mask.numpy(), every, ends.numpy() if steps else None)
    assert torch.equal(grid, torch.from_numpy(expected))
    assert torch.equal(segment_ids(grid, mask), torch.from_numpy(reference.segment_ids(expected, mask.numpy())))
    values = torch.randn(mask.shape, dtype=torch.float64, generator=generator)
    filled = torch.from_numpy(reference.backfill(values.numpy(), expected, mask.numpy()))
    assert torch.equal(backfill(values, grid, mask), filled)
    assert not torch.equal(backfill(values.roll(1, dims=1), grid, mask), filled)  # control: one column off


def test_worked_example():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0]]).bool()
    grid = reward_grid(mask, every=3)
    assert grid.int().tolist() == [[0, 0, 0, 0, 1, 0, 1, 0]]
    assert segment_ids(grid, mask).tolist() == [[-1, -1, 0, 0, 0, 1, 1, -1]]
    values = torch.arange(8.0).unsqueeze(0)
    assert backfill(values, grid, mask).tolist() == [[0, 0, 4, 4, 4, 6, 6, 0]]


def test_reductions(ragged):
    mask = ragged()
    assert torch.equal(reward_grid(mask, every=1), mask)  # dense
    assert torch.equal(reward_grid(mask, every=10_000), reward_grid(mask))  # one interval is sparse
    assert torch.equal(reward_grid(mask, ends=mask), mask)
    assert torch.equal(reward_grid(mask, ends=~mask), reward_grid(mask))  # ends in the prompt are ignored


def test_phase_is_independent_of_the_prompt(generator):
    """The reference's fault 2: a grid that starts at the attention mask shifts with the prompt's length."""
    short = torch.tensor([[0] * 1 + [1] * 12 + [0] * 4]).bool()
    long = torch.tensor([[0] * 5 + [1] * 12]).bool()
    assert torch.equal(reward_grid(short, every=5)[short], reward_grid(long, every=5)[long])
    everything = torch.ones(1, 17, dtype=torch.bool)
    wrong = [(reward_grid(everything, every=5) & mask)[mask] for mask in (short, long)]
    assert not torch.equal(*wrong)  # control


def test_backfill_reads_only_the_grid_and_passes_gradients():
    mask = torch.tensor([[True, True, True]])
    grid = reward_grid(mask, every=2)
    values = torch.tensor([[float("nan"), 1.0, 2.0]], requires_grad=True)
    filled = backfill(values, grid, mask)
    assert filled.tolist() == [[1.0, 1.0, 2.0]]
    filled.sum().backward()
    assert values.grad.tolist() == [[0.0, 2.0, 1.0]]


def test_dense_backfill_keeps_an_exact_zero():
    """The reference's fault: padding found by value deletes a real 0 and shifts the rest."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    values = torch.tensor([[1.0, 0.0, 2.0]])
    assert torch.equal(backfill(values, mask, mask), values)


def test_empty_rows_and_empty_batches():
    mask = torch.zeros(2, 4, dtype=torch.bool)
    assert not reward_grid(mask, every=2).any()
    assert (segment_ids(mask, mask) == -1).all()
    assert not backfill(torch.ones(2, 4), mask, mask).any()
    nothing = torch.zeros(0, 0, dtype=torch.bool)
    assert backfill(torch.zeros(0, 0), reward_grid(nothing, every=1), nothing).shape == (0, 0)


def test_long_rows():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    grid = reward_grid(mask, every=15)
    assert int(grid.sum()) == 4096 // 15 + 1
    assert int(segment_ids(grid, mask).max()) == 4096 // 15


def test_interval_is_positive():
    with pytest.raises(ConfigError, match="every"):
        reward_grid(torch.ones(1, 2, dtype=torch.bool), every=0)
