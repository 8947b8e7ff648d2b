import math

import pytest
import reference_losses as reference
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import (
    discriminator_statistics,
    per_position_weights,
    per_trace_weights,
    reward_grid,
    smoothed_bce,
    weighted_grid_sum,
)

WEIGHTS = [per_trace_weights, per_position_weights]


@pytest.fixture
def case(generator, ragged):
    grid = reward_grid(ragged(rows=8), every=3)
    logits = 3 * torch.randn(grid.shape, dtype=torch.float64, generator=generator)
    return logits, torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]).bool(), grid


def bce(logits, labels, grid, weights, smoothing):
    return weighted_grid_sum(smoothed_bce(logits, labels, smoothing), grid, weights)


def loss_of(case, weigh, smoothing=0.1):
    logits, labels, grid = case
    return bce(logits, labels, grid, weigh(labels, grid.sum(1)), smoothing)


@pytest.mark.parametrize("weigh", WEIGHTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_the_equation(case, weigh, smoothing):
    arrays = [x.numpy() for x in case]
    expected = reference.discriminator_loss(*arrays, smoothing, per_trace=weigh is per_trace_weights)
    assert loss_of(case, weigh, smoothing).item() == pytest.approx(expected, rel=1e-6)
    other = reference.discriminator_loss(*arrays, smoothing, per_trace=weigh is not per_trace_weights)
    assert loss_of(case, weigh, smoothing).item() != pytest.approx(other, rel=1e-6)  # control


def test_undecided_costs_log_two_whatever_the_balance(case):
    logits, labels, grid = case
    for weigh in WEIGHTS:
        assert loss_of((0 * logits, labels, grid), weigh).item() == pytest.approx(math.log(2), rel=1e-6)


def test_worked_example():
    logits = torch.tensor([[2.0], [-1.0]])
    losses = smoothed_bce(logits, torch.tensor([True, False]), 0.1)
    expert = -0.9 * math.log(1 / (1 + math.exp(-2))) - 0.1 * math.log(1 / (1 + math.exp(2)))
    policy = -0.1 * math.log(1 / (1 + math.exp(1))) - 0.9 * math.log(1 / (1 + math.exp(-1)))
    torch.testing.assert_close(losses, torch.tensor([[expert], [policy]]))


@pytest.mark.parametrize("weigh", WEIGHTS)
def test_micro_batches_add_up_to_the_whole(case, weigh):
    logits, labels, grid = case
    weights = weigh(labels, grid.sum(1))

    def loss_and_gradient(parts, weights_of):
        leaf = logits.clone().requires_grad_()
        loss = sum(bce(leaf[p], labels[p], grid[p], weights_of(p), 0.1) for p in parts)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    whole = loss_and_gradient([torch.arange(8)], lambda p: weights[p])
    parts = [torch.tensor([5]), torch.tensor([0, 2, 7]), torch.tensor([1, 3, 4, 6])]
    torch.testing.assert_close(loss_and_gradient(parts, lambda p: weights[p]), whole, rtol=1e-12, atol=1e-12)
    wrong = loss_and_gradient(parts, lambda p: weigh(labels[p], grid[p].sum(1)))
    with pytest.raises(AssertionError):  # control: weights computed anew in each micro-batch
        torch.testing.assert_close(wrong, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weigh", WEIGHTS)
@pytest.mark.parametrize("only", [True, False])
def test_an_absent_class_leaves_the_other_its_half(case, weigh, only):
    logits, labels, grid = case
    labels = torch.full_like(labels, only)
    weights = weigh(labels, grid.sum(1))
    assert (weights * grid.sum(1)).sum().item() == pytest.approx(0.5)
    assert loss_of((logits, labels, grid), weigh).isfinite()


def test_unscored_traces_do_not_count(case):
    logits, labels, grid = case
    grid = grid.clone()
    grid[3] = False
    kept = torch.tensor([0, 1, 2, 4, 5, 6, 7])
    for weigh in WEIGHTS:
        expected = loss_of((logits[kept], labels[kept], grid[kept]), weigh)
        torch.testing.assert_close(loss_of((logits, labels, grid), weigh), expected)


def test_what_is_not_scored_gets_no_gradient(case):
    logits, labels, grid = case
    leaf = torch.where(grid, logits, torch.inf).requires_grad_()
    loss_of((leaf, labels, grid), per_trace_weights).backward()
    assert leaf.grad[grid].abs().min() > 0
    assert not leaf.grad[~grid].any()


def test_gradcheck(case):
    logits, labels, grid = (x[:3] for x in case)
    assert torch.autograd.gradcheck(lambda d: loss_of((d, labels, grid), per_trace_weights), (logits.requires_grad_(),))


def test_statistics_add_up_to_class_means(case):
    logits, labels, grid = case
    weights = per_position_weights(labels, grid.sum(1)).double()
    parts = [discriminator_statistics(*(x[p] for x in case), weights[p]) for p in (slice(0, 3), slice(3, 8))]
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    for label, name in ((True, "expert"), (False, "policy")):
        scored = logits[labels == label][grid[labels == label]]
        right = (scored > 0) == label
        torch.testing.assert_close(total[f"accuracy_{name}"], right.double().mean(), rtol=1e-6, atol=0)
        torch.testing.assert_close(total[f"logit_{name}"], scored.mean(), rtol=1e-5, atol=0)


def test_an_undecided_logit_is_half_right():
    ones = torch.ones(2, 1, dtype=torch.bool)
    labels = torch.tensor([True, False])
    statistics = discriminator_statistics(torch.zeros(2, 1), labels, ones, per_trace_weights(labels, ones.sum(1)))
    assert statistics["accuracy_expert"] == statistics["accuracy_policy"] == 0.5


def test_smoothing_is_below_one_half():
    with pytest.raises(ConfigError, match="label_smoothing"):
        smoothed_bce(torch.zeros(1, 1), torch.tensor([True]), 0.5)
