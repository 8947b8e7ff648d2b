import math

import pytest
import reference_losses as reference
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import (
    clipped_surrogate,
    constant_length_weights,
    kl_k1,
    kl_k2,
    kl_k3,
    surrogate_objective,
    token_mean_weights,
    trace_mean_weights,
)

NORMALISATIONS = {
    "grpo": trace_mean_weights,
    "dapo": token_mean_weights,
    "dr_grpo": lambda mask: constant_length_weights(mask, 12),
}


@pytest.fixture
def case(generator, ragged):
    mask = ragged(rows=8)

    def draw():
        return torch.randn(mask.shape, dtype=torch.float64, generator=generator) * mask

    logprobs = -draw().abs()
    return mask, logprobs, logprobs + 0.3 * draw(), logprobs + 0.3 * draw(), draw()


def clipped_objective(logprobs, old, ref, advantages, weights, epsilon=0.2, epsilon_high=None, kl_coef=0.01):
    surrogate = clipped_surrogate(logprobs, old, advantages, epsilon, epsilon_high)
    return surrogate_objective(surrogate, logprobs, ref, weights, kl_coef=kl_coef)


def objective(case, weights, **settings):
    _, logprobs, old, ref, advantages = case
    return clipped_objective(logprobs, old, ref, advantages, weights, **settings)


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("high", [None, 0.28])
def test_agrees_with_the_equations(case, name, high):
    mask, logprobs, old, ref, advantages = (x.numpy() for x in case)
    expected = {
        n: reference.policy_loss(logprobs, old, ref, advantages, mask, 0.2, high or 0.2, 0.05, n, 12)
        for n in NORMALISATIONS
    }
    loss, _ = objective(case, NORMALISATIONS[name](case[0]).double(), epsilon=0.2, epsilon_high=high, kl_coef=0.05)
    close = [n for n, value in expected.items() if loss.item() == pytest.approx(value, rel=1e-6)]
    assert close == [name]  # and the other two, as controls, are told apart


def test_worked_example():
    logprobs = torch.tensor([[1.5, 1.5, 0.5, 0.5]]).log()
    terms = clipped_surrogate(logprobs, torch.zeros(1, 4), torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    torch.testing.assert_close(terms.loss, torch.tensor([[-1.2, 1.5, -0.5, 0.8]]))
    assert terms.clipped.tolist() == [[True, False, False, True]]


def test_infinite_epsilon_is_importance_weighting(case):
    _, logprobs, old, _, advantages = case
    leaf = logprobs.clone().requires_grad_()
    plain = -(leaf - old).exp() * advantages
    terms = clipped_surrogate(leaf, old, advantages, epsilon=math.inf)
    torch.testing.assert_close(terms.loss, plain)
    assert not terms.clipped.any()
    gradients = [torch.autograd.grad(loss.sum(), leaf)[0] for loss in (terms.loss, plain)]
    torch.testing.assert_close(*gradients)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(clipped_surrogate(leaf, old, advantages).loss, plain)


def test_on_policy_gradient_is_the_policy_gradient(case):
    _, logprobs, _, _, advantages = case
    leaf = logprobs.clone().requires_grad_()
    clipped_surrogate(leaf, logprobs, advantages).loss.sum().backward()
    torch.testing.assert_close(leaf.grad, -advantages)


def test_clipped_tokens_get_no_gradient():
    leaf = torch.tensor([[1.0, 1.0]], requires_grad=True)
    clipped_surrogate(leaf, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])).loss.sum().backward()
    assert leaf.grad[0, 0] == 0 and leaf.grad[0, 1] > 0


@pytest.mark.parametrize("estimate", [kl_k1, kl_k2, kl_k3])
def test_no_divergence_between_equals(case, estimate):
    assert not estimate(case[1], case[1]).any()


def test_estimators_have_the_right_expectation():
    """k1 and k3 are unbiased for every pair of distributions, k2 is not; k2 and k3 are never negative."""
    policy, ref = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    exact = (policy * (policy / ref).log()).sum()
    expectations = {k: (policy * k(policy.log(), ref.log())).sum() for k in (kl_k1, kl_k2, kl_k3)}
    torch.testing.assert_close(expectations[kl_k1], exact)
    torch.testing.assert_close(expectations[kl_k3], exact)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(expectations[kl_k2], exact)
    assert (kl_k2(policy.log(), ref.log()) >= 0).all() and (kl_k3(policy.log(), ref.log()) >= 0).all()
    assert (kl_k1(policy.log(), ref.log()) < 0).any()


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_micro_batches_add_up_to_the_whole(case, name):
    weigh = NORMALISATIONS[name]
    mask, logprobs, *rest = case
    weights = weigh(mask)

    def totals(parts, weights_of):
        leaf = logprobs.clone().requires_grad_()
        outputs = [clipped_objective(leaf[p], *(x[p] for x in rest), weights_of(p)) for p in parts]
        loss = sum(loss for loss, _ in outputs)
        statistics = {key: sum(out[key] for _, out in outputs).double() for key in outputs[0][1]}
        return loss.detach(), torch.autograd.grad(loss, leaf)[0], statistics

    whole = totals([torch.arange(8)], lambda p: weights[p])
    parts = [torch.tensor([5]), torch.tensor([0, 2, 7]), torch.tensor([1, 3, 4, 6])]
    torch.testing.assert_close(totals(parts, lambda p: weights[p]), whole, rtol=1e-6, atol=1e-12)
    wrong = totals(parts, lambda p: weigh(mask[p]))
    with pytest.raises(AssertionError):  # control: weights computed anew in each micro-batch
        torch.testing.assert_close(wrong, whole, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_statistics_are_means_once_divided_by_their_weight(case, name):
    mask, logprobs, old, *_ = case
    weights = NORMALISATIONS[name](mask).double()
    _, statistics = objective(case, weights)
    ratio = (weights * (logprobs - old).exp()).sum() / weights.sum()
    torch.testing.assert_close(statistics["ratio"] / statistics["weight"], ratio)
    if name != "dr_grpo":
        assert statistics["weight"].item() == pytest.approx(1)


def test_gradcheck(case):
    weights = trace_mean_weights(case[0]).double()
    leaf = case[1][:3].clone().requires_grad_()

    def compute(logprobs):
        return clipped_objective(logprobs, *(x[:3] for x in case[2:]), weights[:3])[0]

    assert torch.autograd.gradcheck(compute, (leaf,))


def test_what_weighs_nothing_is_never_read(case):
    mask, *tensors = case
    weights = trace_mean_weights(mask)
    expected = objective(case, weights)[0]
    holes = [torch.where(mask, x, torch.nan) for x in tensors]
    torch.testing.assert_close(objective((mask, *holes), weights)[0], expected)


def test_extreme_ratios_stay_finite():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    leaf = torch.full((1, 4096), -1e4, requires_grad=True)
    for old, advantage in ((-2e4, 1.0), (-2e4, -1.0), (0.0, 1.0), (0.0, -1.0)):
        other = torch.full_like(mask, old, dtype=torch.float32)
        loss, statistics = clipped_objective(
            leaf, other, other, torch.full_like(other, advantage), trace_mean_weights(mask)
        )
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert loss.isfinite() and gradient.isfinite().all() and all(x.isfinite() for x in statistics.values())


def test_reference_is_needed_exactly_when_it_counts(case):
    mask, logprobs, old, _, advantages = case
    weights = trace_mean_weights(mask)
    with pytest.raises(ConfigError, match="no reference"):
        clipped_objective(logprobs, old, None, advantages, weights, kl_coef=0.1)
    without, statistics = clipped_objective(logprobs, old, None, advantages, weights, kl_coef=0.0)
    assert "kl" not in statistics
    torch.testing.assert_close(without, objective(case, weights, kl_coef=0.0)[0])
