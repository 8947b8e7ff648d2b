import math

import pytest
import reference_adversarial as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import (
    bernoulli_entropy,
    class_shares,
    hinge_losses,
    local_rivals,
    pair_weights,
    paired_budget_split,
    pairwise_loss,
    per_position_weights,
    per_trace_weights,
    reward_grid,
    wasserstein_losses,
    weighted_grid_sum,
)

RIVALS = torch.tensor([-1, -1, 0, 0, 0, 1, 1, -1])
LABELS = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()  # row 2 is a rollout that agrees: a tie
LOSSES = {"wasserstein": (wasserstein_losses, reference.wasserstein), "hinge": (hinge_losses, reference.hinge)}


@pytest.fixture
def case(generator, ragged):
    grid = reward_grid(ragged(rows=8), every=3)
    return 2 * torch.randn(grid.shape, dtype=torch.float64, generator=generator), LABELS, grid


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weigh", [per_trace_weights, per_position_weights])
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_agrees_with_the_equation(case, name, weigh, share):
    logits, labels, grid = case
    arrays = [x.numpy() for x in case]
    weights = weigh(labels, grid.sum(1)).double() * class_shares(labels, share)
    ours = weighted_grid_sum(LOSSES[name][0](logits, labels), grid, weights).item()
    per_trace = weigh is per_trace_weights
    expected = {n: reference.class_mean(theirs, *arrays, share, per_trace) for n, (_, theirs) in LOSSES.items()}
    assert [n for n, value in expected.items() if ours == pytest.approx(value, rel=1e-6)] == [name]
    other = reference.class_mean(LOSSES[name][1], *arrays, 1 - share - 0.1, per_trace)
    assert ours != pytest.approx(other, rel=1e-6)  # control


def test_worked_examples():
    logits, labels = torch.tensor([[0.25, 3.0], [0.25, -3.0]]), torch.tensor([True, False])
    assert wasserstein_losses(logits, labels).tolist() == [[-0.25, -3.0], [0.25, -3.0]]
    assert hinge_losses(logits, labels).tolist() == [[0.75, 0.0], [1.25, 0.0]]
    torch.testing.assert_close(
        hinge_losses(logits, labels, 100.0), 100 + wasserstein_losses(logits, labels)
    )  # inside a wide margin


def test_entropy(case):
    logits = case[0]
    torch.testing.assert_close(bernoulli_entropy(logits), torch.from_numpy(reference.entropy(logits.numpy())))
    assert bernoulli_entropy(torch.zeros(1)).item() == pytest.approx(math.log(2))
    leaf = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    bernoulli_entropy(leaf).sum().backward()
    assert leaf.grad.tolist() == [0.0, 0.0, 0.0]
    assert torch.autograd.gradcheck(bernoulli_entropy, (logits.requires_grad_(),))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pairs_agree_with_the_equation(case, smoothing):
    logits, labels, grid = case
    ours = pairwise_loss(logits, labels, grid, pair_weights(grid.sum(1), RIVALS).double(), RIVALS, smoothing).item()
    arrays = [x.numpy() for x in (logits, labels, grid, RIVALS)]
    assert ours == pytest.approx(reference.pairwise(*arrays, smoothing), rel=1e-6)
    no_tie = [arrays[0], arrays[1] & False, *arrays[2:]]
    assert ours != pytest.approx(reference.pairwise(*no_tie, smoothing), rel=1e-6)  # control


def test_a_tie_pulls_the_scores_together_and_a_win_apart():
    ones, rivals = torch.ones(2, 1, dtype=torch.bool), torch.tensor([-1, 0])
    weights = pair_weights(ones.sum(1), rivals)
    for agrees, signs in ((True, [1.0, -1.0]), (False, [-1.0, 1.0])):
        leaf = torch.tensor([[2.0], [0.0]], requires_grad=True)
        pairwise_loss(leaf, torch.tensor([True, agrees]), ones, weights, rivals).backward()
        assert leaf.grad.sign().flatten().tolist() == signs
    level = pairwise_loss(torch.zeros(2, 1), torch.tensor([True, True]), ones, weights, rivals)
    assert level.item() == pytest.approx(math.log(2))


def test_a_common_shift_does_not_matter(case):
    logits, labels, grid = case
    weights = pair_weights(grid.sum(1), RIVALS)
    ours, shifted = (pairwise_loss(logits + c, labels, grid, weights, RIVALS) for c in (0.0, 3.0))
    torch.testing.assert_close(ours, shifted)


@pytest.mark.parametrize("budget", [1, 20, 60, 1000])
def test_pairs_add_up_over_micro_batches(case, budget):
    logits, labels, grid = case
    weights = pair_weights(grid.sum(1), RIVALS).double()

    def loss_and_gradient(parts):
        leaf = logits.clone().requires_grad_()
        loss = sum(pairwise_loss(leaf[p], labels[p], grid[p], weights[p], local_rivals(RIVALS, p), 0.1) for p in parts)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    whole = loss_and_gradient([torch.arange(8)])
    parts = paired_budget_split(grid.sum(1) + 5, RIVALS, budget)
    torch.testing.assert_close(loss_and_gradient(parts), whole, rtol=1e-12, atol=1e-12)
    if len(parts) > 1:
        with pytest.raises(AssertionError):  # control: one is left out
            torch.testing.assert_close(loss_and_gradient(parts[1:]), whole, rtol=1e-12, atol=1e-12)


def test_a_parted_pair_is_an_error(case):
    logits, labels, grid = case
    weights = pair_weights(grid.sum(1), RIVALS)
    part = torch.tensor([2, 3])
    with pytest.raises(DataError, match="parted"):
        pairwise_loss(logits[part], labels[part], grid[part], weights[part], local_rivals(RIVALS, part))


def test_no_pair_is_no_loss(case):
    logits, labels, grid = case
    alone = torch.full((8,), -1)
    leaf = logits.clone().requires_grad_()
    loss = pairwise_loss(leaf, labels, grid, pair_weights(grid.sum(1), alone), alone)
    loss.backward()
    assert loss.item() == 0 and not leaf.grad.any()


def test_gradchecks(case):
    logits, labels, grid = case
    leaf, weights = logits.clone().requires_grad_(), pair_weights(grid.sum(1), RIVALS).double()
    assert torch.autograd.gradcheck(lambda d: pairwise_loss(d, labels, grid, weights, RIVALS, 0.1), (leaf,))
    for loss_of, _ in LOSSES.values():
        assert torch.autograd.gradcheck(lambda d, f=loss_of: weighted_grid_sum(f(d, labels), grid, weights), (leaf,))


def test_what_is_not_scored_is_never_read(case):
    logits, labels, grid = case
    holes, weights = torch.where(grid, logits, torch.nan), pair_weights(grid.sum(1), RIVALS)
    ours, full = (pairwise_loss(x, labels, grid, weights, RIVALS) for x in (holes, logits))
    assert torch.equal(ours, full)


def test_long_traces_stay_finite():
    grid, labels = torch.ones(2, 4096, dtype=torch.bool), torch.tensor([True, False])
    rivals = torch.tensor([-1, 0])
    for size in (1e4, -1e4):
        leaf = torch.stack([torch.full((4096,), size), torch.full((4096,), -size)]).requires_grad_()
        loss = pairwise_loss(leaf, labels, grid, pair_weights(grid.sum(1), rivals), rivals, 0.1)
        loss = loss + hinge_losses(leaf, labels).mean() + bernoulli_entropy(leaf).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert loss.isfinite() and gradient.isfinite().all()


def test_ranges(case):
    logits, labels, _ = case
    with pytest.raises(ConfigError, match="margin"):
        hinge_losses(logits, labels, 0.0)
    with pytest.raises(ConfigError, match="expert_share"):
        class_shares(labels, 1.0)
