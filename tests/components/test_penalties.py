import pytest
import torch

from rairl_lightning.components import ApproximateR1, PenaltyInputs, R1Penalty, UnitGradient
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import (
    aligned_completions,
    mixed_embeddings,
    reward_grid,
    row_shares,
    squared_gradients,
)

LABELS = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()
SEEDS = torch.arange(8) + 17
PARTNERS = torch.tensor([3, 4, 5, 0, 1, 2, 0, 1])
PENALTIES = [R1Penalty(0.7), ApproximateR1(0.7, 0.1), UnitGradient(0.7)]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def case(draw, mask):
    """The whole update as a penalty sees it, and a causal network with one weight vector."""
    embeddings = draw(*mask.shape, 3)
    partners, both = aligned_completions(embeddings[PARTNERS], mask[PARTNERS], mask)
    return PenaltyInputs(embeddings, mask, reward_grid(mask, every=3), SEEDS, partners, both), draw(3)


def logits_with(weight):
    return lambda embeddings: ((embeddings @ weight).cumsum(1) / 4).tanh()


def loss_and_gradient(penalty, case, parts, weights_of):
    inputs, weight = case
    leaf = weight.clone().requires_grad_()
    loss = sum(
        penalty(logits_with(leaf), PenaltyInputs(*(x[rows] for x in vars(inputs).values())), weights_of(rows))
        for rows in parts
    )
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_micro_batches_add_up_to_the_whole(penalty, case):
    weights = penalty.trace_weights(LABELS).double()
    whole = loss_and_gradient(penalty, case, [torch.arange(8)], lambda rows: weights[rows])
    parts = [torch.tensor([5]), torch.tensor([0, 2, 7]), torch.tensor([1, 3, 4, 6])]
    torch.testing.assert_close(loss_and_gradient(penalty, case, parts, lambda rows: weights[rows]), whole, **EXACT)
    anew = loss_and_gradient(penalty, case, parts, lambda rows: penalty.trace_weights(LABELS[rows]).double())
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(anew, whole, **EXACT)


def test_agree_with_their_equations(case):
    inputs, weight = case
    logits_of = logits_with(weight)
    squares = squared_gradients(logits_of, inputs.embeddings_NTH, inputs.completion_mask_NT, inputs.grid_NT)
    ours = R1Penalty(0.7)(logits_of, inputs, R1Penalty().trace_weights(LABELS))
    torch.testing.assert_close(ours, 0.35 * squares[LABELS].mean())
    points = mixed_embeddings(inputs.embeddings_NTH, inputs.partners_NTH, inputs.both_NT, row_shares(SEEDS))
    between = squared_gradients(logits_of, points, inputs.completion_mask_NT, inputs.grid_NT).sqrt()
    ours = UnitGradient(0.7)(logits_of, inputs, UnitGradient().trace_weights(LABELS))
    torch.testing.assert_close(ours, 0.7 * ((between - 1) ** 2).mean())
    with pytest.raises(AssertionError):  # control: at the traces themselves
        torch.testing.assert_close(ours, 0.7 * ((squares.sqrt() - 1) ** 2).mean())


def test_the_approximation_has_the_right_mean(case):
    inputs, weight = case
    weights = R1Penalty().trace_weights(LABELS).double()
    exact = R1Penalty()(logits_with(weight), inputs, weights)
    draws = [
        ApproximateR1(step=1e-3)(
            logits_with(weight),
            PenaltyInputs(inputs.embeddings_NTH, inputs.completion_mask_NT, inputs.grid_NT, SEEDS + 100 * i),
            weights,
        )
        for i in range(300)
    ]
    assert torch.stack(draws).mean().item() == pytest.approx(exact.item(), rel=0.25)
    assert torch.stack(draws).std() > 0  # each is random


def test_a_unit_gradient_costs_nothing():
    ones = torch.ones(2, 4, dtype=torch.bool)
    still = torch.zeros(2, 4, 1)
    inputs = PenaltyInputs(still, ones, reward_grid(ones), torch.tensor([1, 2]), still, ones)
    weights = torch.full((2,), 0.5)
    for slope, cost in ((0.5, 0.0), (1.0, 10.0)):  # s = slope Σ_t e_t has a gradient of norm slope · √4
        ours = UnitGradient()(lambda e, slope=slope: slope * e.squeeze(-1).cumsum(1), inputs, weights)
        assert ours.item() == pytest.approx(cost, abs=1e-4)


def test_only_positives_are_held_by_r1(case):
    inputs, weight = case
    for penalty in (R1Penalty(), ApproximateR1()):
        weights = penalty.trace_weights(LABELS)
        assert not weights[~LABELS].any() and weights.sum().item() == pytest.approx(1)
        assert penalty(logits_with(weight), inputs, penalty.trace_weights(torch.zeros(8).bool())) == 0
        assert not penalty.needs_partners
    assert UnitGradient().needs_partners and UnitGradient().trace_weights(LABELS).sum().item() == pytest.approx(1)


def test_only_the_exact_ones_differentiate_twice():
    """Plain attention has a second derivative, fused attention none; the finite difference needs none."""
    generator = torch.Generator().manual_seed(0)
    ones, embeddings = torch.ones(2, 6, dtype=torch.bool), torch.randn(2, 6, 8, generator=generator)
    inputs = PenaltyInputs(embeddings, ones, ones, torch.tensor([1, 2]), embeddings.flip(0), ones)
    weight = torch.eye(8, requires_grad=True)

    def fused(e):
        query = (e @ weight).unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)[:, 0].sum(-1)

    def eager(e):
        scores = (e @ weight) @ (e @ weight).mT / 8**0.5
        return (scores.masked_fill(~torch.ones(6, 6).tril().bool(), -torch.inf).softmax(-1) @ (e @ weight)).sum(-1)

    for penalty in PENALTIES:
        penalty(eager, inputs, torch.ones(2)).backward()
        if penalty.differentiates_twice:
            with pytest.raises(RuntimeError, match="not implemented"):
                penalty(fused, inputs, torch.ones(2)).backward()
        else:
            penalty(fused, inputs, torch.ones(2)).backward()


def test_every_knob_is_read(case):
    inputs, weight = case
    variants = [*PENALTIES, R1Penalty(), ApproximateR1(), ApproximateR1(step=0.5), UnitGradient()]
    values = {v(logits_with(weight), inputs, v.trace_weights(LABELS).double()).item() for v in variants}
    assert len(values) == len(variants)


def test_partners_are_needed(case):
    inputs, weight = case
    alone = PenaltyInputs(inputs.embeddings_NTH, inputs.completion_mask_NT, inputs.grid_NT, SEEDS)
    with pytest.raises(ConfigError, match="nothing to mix"):
        UnitGradient()(logits_with(weight), alone, UnitGradient().trace_weights(LABELS))


@pytest.mark.parametrize(
    ("component", "fields"),
    [
        (R1Penalty, {"coef": 0.0}),
        (ApproximateR1, {"coef": -1.0}),
        (ApproximateR1, {"step": 0.0}),
        (UnitGradient, {"coef": 0.0}),
    ],
)
def test_ranges(component, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        component(**fields)
