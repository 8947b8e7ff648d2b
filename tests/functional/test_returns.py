import pytest
import reference_advantages as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import discounted_to_go, group_centred, group_spread, leave_one_out

SIZE = 4


@pytest.fixture(params=["left", "right"])
def case(request, generator, ragged):
    mask = ragged(rows=12, side=request.param)
    return torch.randn(mask.shape, dtype=torch.float64, generator=generator), mask


def traces(values, mask):
    return [row[kept].numpy() for row, kept in zip(values, mask, strict=True)]


def padded(rows, mask):
    out = torch.zeros(mask.shape, dtype=torch.float64)
    for n, row in enumerate(rows):
        out[n, mask[n]] = torch.as_tensor(row)
    return out


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9, 1.0])
def test_to_go_agrees_with_the_sum(case, discount):
    values, mask = case
    expected = padded([reference.to_go(trace, discount) for trace in traces(*case)], mask)
    torch.testing.assert_close(discounted_to_go(values, mask, discount), expected)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(discounted_to_go(values, mask, min(1.0, discount + 0.1) - 0.05), expected)


def test_no_discount_horizon_is_the_reward_itself(case):
    values, mask = case
    assert torch.equal(discounted_to_go(values, mask, 0.0), values * mask)


@pytest.mark.parametrize("discount", [0.1, 0.5, 0.9, 1.0])
def test_long_traces_stay_finite_and_right(discount):
    """The reference's fault: cumsum(x / γ^t) · γ^t is not finite beyond T = 833 at γ = 0.9."""
    ones = torch.ones(1, 4096)
    to_go = discounted_to_go(5 * ones, ones.bool(), discount)
    first = 5 * 4096 if discount == 1 else 5 / (1 - discount)
    assert to_go.isfinite().all() and to_go[0, 0].item() == pytest.approx(first, rel=1e-5)
    powers = torch.cumprod(torch.full((1, 4096), discount), dim=1)
    if discount < 1:
        assert not ((5 * ones * powers).flip(1).cumsum(1).flip(1) / powers).isfinite().all()  # control


def test_centring_and_spread_agree_with_the_equations(case):
    values, mask = case
    torch.testing.assert_close(group_centred(*case, SIZE), padded(reference.centred(traces(*case), SIZE), mask))
    groups = reference.groups(traces(*case), SIZE)
    expected = torch.tensor([reference.spread(group) for group in groups], dtype=torch.float64).repeat_interleave(SIZE)
    torch.testing.assert_close(group_spread(*case, SIZE), expected)
    pooled = torch.stack([values[n : n + SIZE][mask[n : n + SIZE]].std(unbiased=False) for n in (0, 4, 8)])
    with pytest.raises(AssertionError):  # control: every token counts alike
        torch.testing.assert_close(pooled.repeat_interleave(SIZE), expected)


def test_leave_one_out_agrees_with_the_equation(case):
    rewards = torch.tensor([trace.mean() for trace in traces(*case)])
    expected = torch.tensor([row[0] for row in reference.leave_one_out(traces(*case), SIZE)])
    ours = leave_one_out(rewards, SIZE)
    torch.testing.assert_close(ours, expected)
    centred = rewards - rewards.view(-1, SIZE).mean(1).repeat_interleave(SIZE)
    torch.testing.assert_close(ours, centred * SIZE / (SIZE - 1))
    with pytest.raises(AssertionError):  # control: the mean with the trace itself
        torch.testing.assert_close(centred, expected)


@pytest.mark.parametrize("value", [0.1, -3.3333333, 1e6])
def test_equal_rewards_give_exactly_nothing(value):
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 0]]).bool()
    assert not group_centred(torch.full((3, 3), value), mask, 3).any()
    assert not leave_one_out(torch.full((7,), value), 7).any()
    assert leave_one_out(torch.full((3,), value), 1).tolist() == [0.0] * 3


def test_what_lies_outside_is_never_read(case):
    values, mask = case
    holes = torch.where(mask, values, torch.nan)
    for function in (group_centred, group_spread):
        assert torch.equal(function(holes, mask, SIZE), function(values, mask, SIZE))
    assert torch.equal(discounted_to_go(holes, mask, 0.9), discounted_to_go(values, mask, 0.9))


def test_gradcheck(case):
    values, mask = (x[:4, :12] for x in case)
    leaf = values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: discounted_to_go(v, mask, 0.9), (leaf,))


def test_ranges():
    ones = torch.ones(3, 2)
    with pytest.raises(ConfigError, match="discount"):
        discounted_to_go(ones, ones.bool(), 1.1)
    with pytest.raises(DataError, match="group was split"):
        leave_one_out(torch.zeros(3), 2)
