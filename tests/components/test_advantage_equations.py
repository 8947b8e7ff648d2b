"""Every advantage against its equation, under every scaling and segment signal."""

from itertools import product

import numpy as np
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
from rairl_lightning.functional import (
    backfill,
    group_normalised,
    group_normalised_advantages,
    reward_grid,
    split_groups,
    trajectory_mean,
)

SIZE = 4
SCALINGS = {"none": NoScaling(), "group": GroupScaling(0.1), "batch": BatchScaling(0.1)}
SIGNALS = {"drop": Drop(), "change": ClippedChange(0.4), "level": Level()}


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


def only(found, expected):
    """The names of the expected tensors that are close: one, the others being controls."""
    return [name for name, value in expected.items() if torch.allclose(found, value, rtol=1e-9, atol=1e-12)]


@pytest.mark.parametrize("kind", ["centred", "left out", "to go"])
def test_scaled_advantages_agree_with_the_equations(kind, rewards, mask):
    rows = traces(rewards, mask)
    components = {"centred": GroupCentred, "left out": LeaveOneOut, "to go": lambda s: RewardToGo(0.7, s)}
    bases = {
        "centred": reference.trace_centred(rows, SIZE),
        "left out": reference.leave_one_out(rows, SIZE),
        "to go": reference.reward_to_go(rows, SIZE, 0.7),
        "another discount": reference.reward_to_go(rows, SIZE, 0.71),
    }
    expected = {
        (base, scaling): padded(reference.scaled(bases[base], SIZE, scaling, 0.1), mask)
        for base, scaling in product(bases, SCALINGS)
    }
    for name, scaling in SCALINGS.items():
        found = components[kind](scaling)(rewards, mask, SIZE)
        assert only(found, expected) == [(kind, name)]  # controls: the others


@pytest.mark.parametrize("eps", [0.1, 0.2])
def test_grpos_advantage_agrees_with_the_equation(rewards, mask, eps):
    expected = {e: padded(reference.normalised(traces(rewards, mask), SIZE, e), mask) for e in (0.1, 0.2)}
    assert only(GroupNormalised(eps=eps)(rewards, mask, SIZE), expected) == [eps]
    assert only(group_normalised_advantages(rewards, mask, SIZE, eps), expected) == [eps]
    returns = trajectory_mean(rewards, mask)
    np.testing.assert_allclose(returns.numpy(), [np.mean(trace) for trace in traces(rewards, mask)])
    by_trace = group_normalised(returns, SIZE, eps).unsqueeze(1) * mask
    assert only(by_trace, expected) == [eps]  # control: the other
    groups = split_groups(returns, SIZE)
    assert groups.tolist() == [returns[:SIZE].tolist(), returns[SIZE:].tolist()]


@pytest.mark.parametrize("name", SIGNALS)
def test_segment_bonuses_agree_with_the_equation(name, rewards, mask, grid):
    rows = traces(rewards, mask)
    lengths = [[len(part) for part in np.split(np.arange(len(row)), range(3, len(row), 3))] for row in rows]
    signals = {
        kind: [reference.signal(row, some, kind, 0.4) for row, some in zip(rows, lengths, strict=True)]
        for kind in SIGNALS
    }
    found = SIGNALS[name](rewards, grid, mask)
    assert only(found, {kind: padded(values, mask) for kind, values in signals.items()}) == [name]  # controls
    base = padded(reference.trace_centred(rows, SIZE), mask)
    expected = {
        (kind, weight): base + weight * padded(reference.centred(values, SIZE), mask)
        for (kind, values), weight in product(signals.items(), (0.5, 0.6))
    }
    assert only(SegmentBonus(GroupCentred(), SIGNALS[name], 0.5)(rewards, mask, SIZE, grid), expected) == [(name, 0.5)]


def test_reductions(rewards, mask):
    """Baselines that differ by a factor are one once scaled; a clip that is never met is none."""
    factor = SIZE / (SIZE - 1)
    left_out = LeaveOneOut(GroupScaling(0.1 * factor))(rewards, mask, SIZE)
    torch.testing.assert_close(left_out, GroupNormalised(eps=0.1)(rewards, mask, SIZE))
    with pytest.raises(AssertionError):  # control: the eps of the larger scale is not the same
        torch.testing.assert_close(LeaveOneOut(GroupScaling(0.1))(rewards, mask, SIZE), left_out)
    by_token = RewardToGo(0.0, NoScaling())(rewards, mask, SIZE)
    level = SegmentBonus(GroupCentred(), Level(), 1.0)(rewards, mask, SIZE, mask)
    torch.testing.assert_close(level - GroupCentred()(rewards, mask, SIZE), by_token)  # γ = 0: a token's own reward
    assert not torch.equal(by_token, RewardToGo(0.1, NoScaling())(rewards, mask, SIZE))
    change = ClippedChange(1e9)(rewards, mask, mask)
    torch.testing.assert_close(change.clamp(max=0), Drop()(rewards, mask, mask))
    pairs = LeaveOneOut()(rewards, mask, 2)
    returns = trajectory_mean(rewards, mask)
    torch.testing.assert_close(pairs[0, mask[0]], (returns[0] - returns[1]).expand(int(mask[0].sum())))


def test_a_whole_trace_to_go_is_its_length_times_its_advantage(rewards, mask):
    """With γ = 1 and no scaling a trace's first token has L (R - b)."""
    to_go = RewardToGo(1.0, NoScaling())(rewards, mask, SIZE)
    first = to_go.gather(1, mask.long().argmax(1, keepdim=True)).squeeze(1)
    centred = GroupCentred()(rewards, mask, SIZE).sum(1)
    torch.testing.assert_close(first, centred)
    discounted = RewardToGo(0.9, NoScaling())(rewards, mask, SIZE)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(discounted.gather(1, mask.long().argmax(1, keepdim=True)).squeeze(1), centred)
