import pytest
import reference_critic as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import reward_grid, segment_shaping


@pytest.fixture
def case(generator, ragged):
    mask = ragged()
    return torch.randn(mask.shape, dtype=torch.float64, generator=generator), reward_grid(mask, every=3), mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("every", [None, 1, 3])
@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_agrees_with_the_equation(ragged, generator, side, every, gamma):
    mask = ragged(side=side)
    grid = reward_grid(mask, every=every)
    potentials = torch.randn(mask.shape, dtype=torch.float64, generator=generator)
    arrays = [x.numpy() for x in (potentials, grid, mask)]
    ours = segment_shaping(potentials, grid, mask, gamma)
    torch.testing.assert_close(ours, torch.from_numpy(reference.shaping(*arrays, gamma)))
    if gamma:
        with pytest.raises(AssertionError):  # control: the terminal state keeps its potential
            torch.testing.assert_close(ours, torch.from_numpy(reference.shaping(*arrays, gamma, terminal_zero=False)))


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_a_trace_earns_nothing_by_shaping(case, gamma):
    """Σ γ^k (γ h(s_{k+1}) - h(s_k)) = -h(s_0), the same for all completions of a prompt."""
    potentials, grid, mask = case
    shaping = segment_shaping(potentials, grid, mask, gamma)
    order = (grid.long().cumsum(1) - 1).clamp(min=0)
    total = (shaping * gamma**order).sum(1)
    prompt_end = mask.long().argmax(1) - 1
    torch.testing.assert_close(total, -potentials.gather(1, prompt_end.unsqueeze(1)).squeeze(1))
    kept = torch.from_numpy(reference.shaping(*(x.numpy() for x in case), gamma, terminal_zero=False))
    with pytest.raises(AssertionError):  # control: the reference implementation's fault 9
        torch.testing.assert_close((kept * gamma**order).sum(1), -potentials.gather(1, prompt_end[:, None])[:, 0])


def test_one_segment_makes_interval_sparse(case):
    potentials, _, mask = case
    sparse, long = (segment_shaping(potentials, reward_grid(mask, every=n), mask) for n in (None, 10_000))
    assert torch.equal(sparse, long)


def test_only_states_are_read(case):
    potentials, grid, mask = case
    first = mask & (mask.long().cumsum(1) == 1)
    states = grid | torch.cat([first[:, 1:], torch.zeros_like(first[:, :1])], dim=1)
    leaf = torch.where(states, potentials, torch.nan).requires_grad_()
    shaping = segment_shaping(leaf, grid, mask)
    assert torch.equal(shaping, segment_shaping(potentials, grid, mask))
    shaping.sum().backward()
    assert not leaf.grad[~states].any()


def test_gradcheck(case):
    potentials, grid, mask = (x[:3] for x in case)
    assert torch.autograd.gradcheck(lambda h: segment_shaping(h, grid, mask, 0.9), (potentials.requires_grad_(),))


def test_long_and_empty_rows():
    mask = torch.ones(1, 4097, dtype=torch.bool)
    mask[0, 0] = False
    assert segment_shaping(torch.full((1, 4097), 1e4), mask, mask, 0.99).isfinite().all()
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert not segment_shaping(torch.ones(2, 3), nothing, nothing).any()


def test_needs_a_prompt_and_a_discount():
    ones = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(DataError, match="column 0"):
        segment_shaping(torch.zeros(1, 2), ones, ones)
    with pytest.raises(ConfigError, match="gamma"):
        segment_shaping(torch.zeros(1, 2), ones, ones, gamma=1.01)
