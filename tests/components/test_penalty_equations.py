"""Every gradient penalty against a network whose gradient was taken by hand; what is random is watched, not rebuilt."""

import numpy as np
import pytest
import reference_penalty as reference
import torch

from rairl_lightning.components import ApproximateR1, PenaltyInputs, R1Penalty, UnitGradient
from rairl_lightning.functional import (
    aligned_completions,
    directional_squares,
    mixed_embeddings,
    norm_from_squares,
    opposite_rows,
    reward_grid,
    row_noise,
    row_shares,
    squared_gradients,
)

LABELS = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()
SEEDS = torch.arange(8) + 17
PARTNERS = torch.tensor([3, 4, 5, 0, 1, 2, 0, 1])


@pytest.fixture
def case(draw, mask):
    """Embeddings, mask, grid, and the weight of the network."""
    return draw(*mask.shape, 3), mask, reward_grid(mask, every=3), draw(3)


def network(weight, calls=None):
    def logits_of(embeddings):
        if calls is not None:
            calls.append(embeddings.detach())
        return ((embeddings @ weight).cumsum(1) / 4).tanh() + embeddings[..., 0] ** 2

    return logits_of


def squares_of(embeddings, mask, grid, weight):
    rows = zip(*(x.numpy() for x in (embeddings, mask, grid)), strict=True)
    return [reference.squared_gradient(e, weight.numpy(), m, g) for e, m, g in rows]


def inputs_of(case):
    embeddings, mask, grid, _ = case
    partners, both = aligned_completions(embeddings[PARTNERS], mask[PARTNERS], mask)
    return PenaltyInputs(embeddings, mask, grid, SEEDS, partners, both)


def test_squared_gradients_agree_with_the_hand_derived(case):
    embeddings, mask, grid, weight = case
    expected = torch.tensor(squares_of(*case), dtype=torch.float64)
    torch.testing.assert_close(squared_gradients(network(weight), embeddings, mask, grid), expected)
    for wrong in (squares_of(embeddings, mask, mask, weight), squares_of(embeddings, mask | ~mask, grid, weight)):
        with pytest.raises(AssertionError):  # controls: another grid; the prompt moves
            torch.testing.assert_close(torch.tensor(wrong, dtype=torch.float64), expected)


@pytest.mark.parametrize("coef", [0.7, 0.8])
def test_r1_agrees_with_its_equation(case, coef):
    weights = R1Penalty().trace_weights(LABELS).double()
    found = R1Penalty(coef)(network(case[3]), inputs_of(case), weights).item()
    expected = {c: reference.r1(squares_of(*case), LABELS.tolist(), c) for c in (0.7, 0.8, 1.4)}
    assert [c for c, value in expected.items() if found == pytest.approx(value, rel=1e-6)] == [coef]  # controls
    assert found != pytest.approx(reference.r1(squares_of(*case), (~LABELS).tolist(), coef), rel=1e-6)  # control


def test_the_unit_gradient_agrees_with_its_equation(case):
    """Where it looks is watched: between trace and partner, at one share a trace, and nowhere else."""
    embeddings, mask, grid, weight = case
    calls = []
    weights = UnitGradient().trace_weights(LABELS).double()
    found = UnitGradient(0.7)(network(weight, calls), inputs_of(case), weights).item()
    (points,) = calls
    shares = []
    for n, partner in enumerate(PARTNERS.tolist()):
        moved, both = reference.aligned(embeddings[partner].numpy(), mask[partner].numpy(), mask[n].numpy())
        own, between = embeddings[n].numpy(), points[n].numpy()
        np.testing.assert_array_equal(between[~both], own[~both])
        share = (between[both] - moved[both]) / (own[both] - moved[both])
        np.testing.assert_allclose(share, share.flat[0], rtol=1e-6)
        shares.append(share.flat[0])
        found_moved, found_both = aligned_completions(embeddings[[partner]], mask[[partner]], mask[[n]])
        assert np.array_equal(found_moved[0].numpy(), moved) and np.array_equal(found_both[0].numpy(), both)
        mixed = mixed_embeddings(embeddings[[n]], found_moved, found_both, torch.tensor([shares[-1]]))
        torch.testing.assert_close(mixed[0], points[n], rtol=1e-6, atol=1e-9)
    assert shares == pytest.approx(row_shares(SEEDS).tolist(), rel=1e-6) and len(set(shares)) == 8
    assert found == pytest.approx(reference.unit_gradient(squares_of(points, mask, grid, weight), 0.7), rel=1e-6)
    at_the_traces = reference.unit_gradient(squares_of(*case), 0.7)
    assert found != pytest.approx(at_the_traces, rel=1e-6)  # control
    squares = torch.tensor([0.0, 4.0], dtype=torch.float64)
    assert norm_from_squares(squares).tolist() == pytest.approx([0.0, 2.0], abs=2e-6)


def test_the_approximation_agrees_with_its_equation(case):
    """Two points either side of the traces, along one normal direction of the completion's tokens."""
    embeddings, mask, grid, weight = case
    calls = []
    found = directional_squares(network(weight, calls), embeddings, mask, grid, SEEDS, step=0.2)
    up, down = calls
    torch.testing.assert_close((up + down) / 2, embeddings)  # symmetric
    noise = row_noise(SEEDS, mask, embeddings)
    for n in range(8):
        size = np.sqrt(np.mean(embeddings[n][mask[n]].numpy() ** 2))
        torch.testing.assert_close((up - down)[n] / (2 * 0.2 * size), noise[n])
        scores = [reference.score(x[n].numpy(), weight.numpy(), grid[n].numpy()) for x in (up, down)]
        expected = ((scores[0] - scores[1]) / (2 * 0.2 * size)) ** 2
        assert found[n].item() == pytest.approx(expected)
        assert found[n].item() != pytest.approx(4 * expected)  # control: a one-sided difference's denominator
    component = ApproximateR1(0.7, 0.2)
    weights = component.trace_weights(LABELS).double()
    value = component(network(weight), inputs_of(case), weights).item()
    assert value == pytest.approx(reference.r1(found.tolist(), LABELS.tolist(), 0.7), rel=1e-6)


def test_a_small_step_along_the_gradient_of_a_line_is_the_gradient(draw):
    """Of a linear score the difference is exact: its mean over directions is R1, whatever the step."""
    ones = torch.ones(1, 1, dtype=torch.bool)
    weight, embeddings = draw(3), draw(1, 1, 3)
    exact = squared_gradients(lambda e: e @ weight, embeddings, ones, ones).item()
    assert exact == pytest.approx((weight**2).sum().item())
    for step in (1e-2, 10.0):
        (found,) = directional_squares(lambda e: e @ weight, embeddings, ones, ones, SEEDS[:1], step)
        along = (row_noise(SEEDS[:1], ones, embeddings)[0, 0] @ weight) ** 2
        assert found.item() == pytest.approx(along.item(), rel=1e-6)


def test_what_is_random_has_the_right_distribution(generator):
    noise = row_noise(torch.arange(50), torch.ones(50, 20, dtype=torch.bool), torch.zeros(50, 20, 4)).flatten()
    shares = row_shares(torch.arange(2000))
    for found, expected in (
        (noise.mean(), 0.0),
        (noise.var(), 1.0),
        (noise.pow(4).mean() / 3, 1.0),
        (shares.mean(), 0.5),
        (shares.var() * 12, 1.0),
        (shares.pow(3).mean() * 4, 1.0),
    ):
        assert found.item() == pytest.approx(expected, abs=0.1)
        assert (found + 0.2).item() != pytest.approx(expected, abs=0.1)  # control
    draws = torch.stack([opposite_rows(LABELS, generator) for _ in range(400)])
    for n in range(8):
        others = (LABELS[n] != LABELS).double()
        frequency = torch.bincount(draws[:, n], minlength=8) / 400
        torch.testing.assert_close(frequency.double(), others / others.sum(), rtol=0, atol=0.075)
        assert not frequency[LABELS[n] == LABELS].any()


def test_penalties_train_the_network_as_their_equations_do(case):
    """The gradient with respect to the weight, against differences of the reference."""
    embeddings, mask, grid, weight = case
    calls = []
    UnitGradient()(network(weight, calls), inputs_of(case), torch.ones(8))

    def r1(w):
        return reference.r1(squares_of(embeddings, mask, grid, w), LABELS.tolist(), 0.7)

    def unit(w):
        return reference.unit_gradient(squares_of(calls[0], mask, grid, w), 0.7)

    for penalty, theirs in ((R1Penalty(0.7), r1), (UnitGradient(0.7), unit)):
        leaf = weight.clone().requires_grad_()
        penalty(network(leaf), inputs_of(case), penalty.trace_weights(LABELS).double()).backward()
        for i in range(3):
            move = 1e-6 * torch.eye(3, dtype=torch.float64)[i]
            slope = (theirs(weight + move) - theirs(weight - move)) / 2e-6
            assert leaf.grad[i].item() == pytest.approx(slope, rel=1e-5)
            assert leaf.grad[i].item() != pytest.approx(1.001 * slope, rel=1e-5)  # control
