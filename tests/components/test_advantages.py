import pytest
import reference_advantages as reference
import torch

from rairl_lightning.components import (
    BatchScaling,
    ClippedChange,
    Drop,
    GroupCentred,
    GroupNormalised,
    GroupScaling,
    LeaveOneOut,
    Level,
    NoScaling,
    RewardToGo,
    SegmentBonus,
)
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import backfill, reward_grid

SIZE = 4
ALL = [
    GroupNormalised(),
    GroupCentred(),
    LeaveOneOut(),
    LeaveOneOut(GroupScaling()),
    RewardToGo(),
    RewardToGo(0.5, NoScaling()),
    SegmentBonus(),
    SegmentBonus(RewardToGo(), Level(), 1.0),
    SegmentBonus(GroupNormalised(), ClippedChange(), 1.0),
]


@pytest.fixture
def grid(mask):
    return reward_grid(mask, every=3)


@pytest.fixture
def rewards(draw, mask, grid):
    return backfill(draw(*mask.shape), grid, mask)


def traces(values, mask):
    return [row[kept].numpy() for row, kept in zip(values, mask, strict=True)]


def padded(rows, mask):
    out = torch.zeros(mask.shape, dtype=torch.float64)
    for n, row in enumerate(rows):
        out[n, mask[n]] = torch.as_tensor(row)
    return out


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_reward_to_go_agrees_with_the_equation(rewards, mask, discount):
    expected = padded(reference.reward_to_go(traces(rewards, mask), SIZE, discount), mask)
    torch.testing.assert_close(RewardToGo(discount, NoScaling())(rewards, mask, SIZE), expected)
    if discount:
        after = padded(
            reference.centred([reference.to_go(trace, discount) for trace in traces(rewards, mask)], SIZE), mask
        )
        with pytest.raises(AssertionError):  # control: centred after the sum, so that length is paid
            torch.testing.assert_close(after, expected)
    else:
        torch.testing.assert_close(expected, padded(reference.centred(traces(rewards, mask), SIZE), mask))


def test_leave_one_out_agrees_with_the_equation(rewards, mask):
    expected = padded(reference.leave_one_out(traces(rewards, mask), SIZE), mask)
    torch.testing.assert_close(LeaveOneOut()(rewards, mask, SIZE), expected)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(GroupCentred()(rewards, mask, SIZE), expected)


def test_scalings_agree_with_the_equation(rewards, mask):
    centred = GroupCentred()(rewards, mask, SIZE)
    rows = traces(centred, mask)
    torch.testing.assert_close(
        BatchScaling(0.1)(centred, mask, SIZE), centred / (reference.spread(rows) + 0.1), rtol=1e-9, atol=0
    )
    by_group = torch.cat([centred[n : n + SIZE] / (reference.spread(rows[n : n + SIZE]) + 0.1) for n in (0, 4)])
    torch.testing.assert_close(GroupScaling(0.1)(centred, mask, SIZE), by_group, rtol=1e-9, atol=0)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(BatchScaling(0.1)(centred, mask, SIZE), by_group, rtol=1e-9, atol=0)


def test_reductions(rewards, mask):
    normalised = GroupNormalised(1e-2)(rewards, mask, SIZE)
    torch.testing.assert_close(GroupCentred(GroupScaling(1e-2))(rewards, mask, SIZE), normalised)
    centred = GroupCentred()(rewards, mask, SIZE)
    torch.testing.assert_close(LeaveOneOut()(rewards, mask, SIZE), centred * SIZE / (SIZE - 1))
    one = GroupScaling()(centred[:SIZE], mask[:SIZE], SIZE)
    torch.testing.assert_close(BatchScaling()(centred[:SIZE], mask[:SIZE], SIZE), one)  # one group is the batch
    none = SegmentBonus(GroupNormalised(1e-2), Drop(), 0.0)(rewards, mask, SIZE, reward_grid(mask, every=3))
    torch.testing.assert_close(none, normalised)
    sparse = SegmentBonus(GroupNormalised(1e-2), Drop(), 9.0)(rewards, mask, SIZE, reward_grid(mask))
    torch.testing.assert_close(sparse, normalised)  # one segment cannot drop


@pytest.mark.parametrize("advantage", ALL)
def test_length_alone_earns_nothing(advantage, mask, grid):
    """The reference's fault 11: discounted sums that are not centred pay for length."""
    assert not advantage(1.5 * mask, mask, SIZE, grid).any()
    assert reference.to_go([1.5] * 9, 0.9)[0] > reference.to_go([1.5] * 3, 0.9)[0]  # control


@pytest.mark.parametrize("advantage", ALL)
def test_nothing_outside_is_read_or_written(advantage, rewards, mask, grid):
    ours = advantage(rewards, mask, SIZE, grid)
    assert ours.shape == mask.shape and not ours[~mask].any() and ours[mask].any()
    assert torch.equal(advantage(torch.where(mask, rewards, torch.nan), mask, SIZE, grid), ours)


@pytest.mark.parametrize("advantage", ALL)
def test_padding_does_not_matter(advantage, rewards, mask, grid):
    ours = advantage(rewards, mask, SIZE, grid)
    wider = [torch.nn.functional.pad(x, (3, 2)) for x in (rewards, mask, grid)]
    torch.testing.assert_close(advantage(wider[0], wider[1], SIZE, wider[2])[:, 3:-2], ours)


@pytest.mark.parametrize("advantage", ALL)
def test_long_traces_stay_finite(advantage, draw):
    mask = torch.ones(4, 4096, dtype=torch.bool)
    mask[1, 100:] = False
    assert advantage(5 * draw(4, 4096).float(), mask, SIZE, mask).isfinite().all()


def test_segment_bonus_worked_example():
    mask = torch.ones(2, 6, dtype=torch.bool)
    grid = torch.tensor([[0, 1, 0, 1, 0, 1]] * 2).bool()
    rewards = torch.tensor([[1.0, 1.0, -2.0, -2.0, 0.0, 0.0], [1.0] * 6])
    signals = {signal: signal(rewards, grid, mask)[0].tolist() for signal in (Drop(), ClippedChange(1.5), Level())}
    assert signals == {
        Drop(): [0, 0, -3, -3, 0, 0],
        ClippedChange(1.5): [0, 0, -1.5, -1.5, 1.5, 1.5],
        Level(): [1, 1, -2, -2, 0, 0],
    }
    bonus = SegmentBonus(GroupCentred(), Drop(), 2.0)(rewards, mask, 2, grid) - GroupCentred()(rewards, mask, 2)
    # Mean drop of the traces is -1 and 0, so the baseline is -½.
    torch.testing.assert_close(bonus, 2 * torch.tensor([[0.5, 0.5, -2.5, -2.5, 0.5, 0.5], [0.5] * 6]))
    assert bonus[0].argmin().item() in (2, 3)


def test_without_a_grid_every_token_is_a_segment(rewards, mask):
    bonus = SegmentBonus()
    assert torch.equal(bonus(rewards, mask, SIZE), bonus(rewards, mask, SIZE, mask))
    assert not torch.equal(bonus(rewards, mask, SIZE), bonus(rewards, mask, SIZE, reward_grid(mask)))


def test_every_knob_is_read(draw, mask, grid):
    rewards = backfill(3 * draw(*mask.shape), grid, mask)
    variants = [
        *ALL,
        GroupNormalised(eps=1.0),
        GroupCentred(BatchScaling()),
        GroupCentred(BatchScaling(eps=1.0)),
        GroupCentred(GroupScaling(eps=0.5)),
        RewardToGo(discount=0.5),
        RewardToGo(scaling=GroupScaling()),
        SegmentBonus(weight=0.5),
        SegmentBonus(GroupNormalised(), ClippedChange(clip=0.1), 1.0),
    ]
    results = {tuple(v(rewards, mask, SIZE, grid).flatten().tolist()) for v in variants}
    assert len(results) == len(variants)


@pytest.mark.parametrize(
    ("component", "fields"),
    [
        (GroupScaling, {"eps": 0.0}),
        (BatchScaling, {"eps": 0.0}),
        (RewardToGo, {"discount": 1.5}),
        (ClippedChange, {"clip": 0.0}),
        (SegmentBonus, {"weight": -1.0}),
    ],
)
def test_ranges(component, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        component(**fields)
