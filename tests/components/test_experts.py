"""What a demonstration weighs in its group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rairl_lightning.components import BalancedExpert, ConstantLength, NoExpert, SingleExpert, TokenMean, TraceMean

GROUP, PROMPTS, WIDTH = 4, 3, 9
IS_EXPERT = torch.tensor([False] * (GROUP - 1) + [True]).repeat(PROMPTS)


def masks() -> torch.Tensor:
    lengths = torch.randint(1, WIDTH, (GROUP * PROMPTS,), generator=torch.Generator().manual_seed(3))
    return torch.arange(WIDTH) < lengths[:, None]


@pytest.mark.parametrize("normalisation", [TraceMean(), TokenMean(), ConstantLength(WIDTH)])
def test_weights_agree_with_the_equation(normalisation: object) -> None:
    weights = normalisation(masks())
    expected = weights.double().numpy().copy()
    for start in range(0, len(expected), GROUP):
        rollouts, expert = expected[start : start + GROUP - 1], expected[start + GROUP - 1]
        both, own = rollouts.sum() + expert.sum(), expert.sum()
        rollouts *= both / (2 * rollouts.sum())
        expert *= both / (2 * own)
    balanced = BalancedExpert().weigh(weights, IS_EXPERT, GROUP)
    assert np.allclose(balanced.numpy(), expected, atol=1e-7)
    assert not np.allclose(weights.numpy(), expected, atol=1e-3), "negative control: it is not what it was"
    for plain in (NoExpert(), SingleExpert()):
        assert plain.weigh(weights, IS_EXPERT, GROUP) is weights


@pytest.mark.parametrize("normalisation", [TraceMean(), TokenMean()])
def test_both_sides_carry_half_and_a_group_keeps_its_weight(normalisation: object) -> None:
    weights = normalisation(masks())
    balanced = BalancedExpert().weigh(weights, IS_EXPERT, GROUP)
    groups = balanced.sum(1).reshape(PROMPTS, GROUP)
    torch.testing.assert_close(groups[:, :-1].sum(1), groups[:, -1])
    torch.testing.assert_close(groups.sum(1), weights.sum(1).reshape(PROMPTS, GROUP).sum(1))


def test_trace_means_are_scaled_by_the_size_of_the_group() -> None:
    weights = TraceMean()(masks())
    factors = (BalancedExpert().weigh(weights, IS_EXPERT, GROUP).sum(1) / weights.sum(1)).reshape(PROMPTS, GROUP)
    size = GROUP - 1
    torch.testing.assert_close(factors[:, :-1], torch.full((PROMPTS, size), (size + 1) / (2 * size)))
    torch.testing.assert_close(factors[:, -1], torch.full((PROMPTS,), (size + 1) / 2))


def test_a_side_without_weight_changes_nothing() -> None:
    mask = masks()
    mask[IS_EXPERT] = False
    weights = TraceMean()(mask)
    balanced = BalancedExpert().weigh(weights, IS_EXPERT, GROUP)
    assert balanced.isfinite().all() and not balanced[IS_EXPERT].any()
