import pytest
import reference_losses as reference
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import group_normalised, group_normalised_advantages, trajectory_mean


@pytest.fixture
def case(generator, ragged):
    mask = ragged(rows=12)
    return torch.randn(mask.shape, dtype=torch.float64, generator=generator), mask


@pytest.mark.parametrize("eps", [0.0, 1e-4, 1.0])
def test_agrees_with_the_equation(case, eps):
    ours = group_normalised_advantages(*case, group_size=4, eps=eps)
    expected = torch.from_numpy(reference.group_normalised(*(x.numpy() for x in case), 4, eps))
    torch.testing.assert_close(ours, expected)
    returns = trajectory_mean(*case).view(3, 4)
    unbiased = (returns - returns.mean(1, keepdim=True)) / (returns.std(1, keepdim=True) + eps)
    with pytest.raises(AssertionError):  # control: the sample deviation
        torch.testing.assert_close(ours, unbiased.reshape(-1, 1) * case[1])


def test_worked_example():
    rewards = torch.tensor([1.0, 2.0, 3.0, 0.5, 0.5, 0.5])
    expected = [-(1.5**0.5), 0.0, 1.5**0.5, 0.0, 0.0, 0.0]
    assert group_normalised(rewards, 3, eps=0.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.1, -3.3333333, 1e6])
def test_equal_rewards_give_exactly_nothing(value):
    assert group_normalised(torch.full((7,), value), 7, eps=0.0).tolist() == [0.0] * 7
    assert group_normalised(torch.full((3,), value), 1).tolist() == [0.0] * 3


def test_permutation_inside_a_group_permutes_the_advantages(case, generator):
    rewards, mask = case
    order = torch.cat([4 * g + torch.randperm(4, generator=generator) for g in range(3)])
    ours = group_normalised_advantages(rewards, mask, 4)
    torch.testing.assert_close(group_normalised_advantages(rewards[order], mask[order], 4), ours[order])
    across = torch.arange(12).roll(1)
    with pytest.raises(AssertionError):  # control: groups are mixed
        torch.testing.assert_close(group_normalised_advantages(rewards[across], mask[across], 4), ours[across])


def test_shift_and_scale_of_the_reward_do_not_matter(case):
    rewards, mask = case
    ours = group_normalised_advantages(rewards, mask, 4, eps=0.0)
    torch.testing.assert_close(group_normalised_advantages(3 * rewards + 7, mask, 4, eps=0.0), ours)


def test_length_alone_earns_nothing():
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    assert not group_normalised_advantages(torch.full((2, 4), 2.0), mask, 2).any()


def test_long_traces_stay_finite(generator):
    rewards = 5 * torch.randn(2, 4096, generator=generator)
    assert group_normalised_advantages(rewards, torch.ones(2, 4096, dtype=torch.bool), 2).isfinite().all()


def test_what_lies_outside_is_never_read(case):
    rewards, mask = case
    ours = group_normalised_advantages(torch.where(mask, rewards, torch.nan), mask, 4)
    torch.testing.assert_close(ours, group_normalised_advantages(rewards, mask, 4))


def test_groups_are_whole():
    with pytest.raises(DataError, match="group was split"):
        group_normalised(torch.zeros(5), 2)
