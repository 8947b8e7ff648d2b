import math

import pytest
import reference_surrogates as reference
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import (
    clipped_surrogate,
    kl_k1,
    kl_k2,
    kl_k3,
    sequence_surrogate,
    surrogate_objective,
    trace_mean_weights,
    truncated_surrogate,
)


@pytest.fixture
def case(generator, ragged):
    mask = ragged(rows=8)

    def draw():
        return torch.randn(mask.shape, dtype=torch.float64, generator=generator) * mask

    logprobs = -draw().abs()
    return mask, logprobs, logprobs + 0.5 * draw(), draw()


def gradient_of(loss_of, logprobs):
    leaf = logprobs.clone().requires_grad_()
    return torch.autograd.grad(loss_of(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("dual", [1.2, 3.0])
def test_dual_clip_agrees_with_the_equation(case, dual):
    mask, logprobs, old, advantages = case
    ours = clipped_surrogate(logprobs, old, advantages, 0.2, 0.28, dual)
    plain = clipped_surrogate(logprobs, old, advantages, 0.2, 0.28)
    for n, t in mask.nonzero().tolist():
        ratio, advantage = math.exp(logprobs[n, t] - old[n, t]), advantages[n, t].item()
        assert ours.loss[n, t].item() == pytest.approx(reference.dual_clipped(ratio, advantage, 0.2, 0.28, dual))
    if dual == 1.2:
        assert (ours.loss < plain.loss).any() and (ours.clipped & ~plain.clipped).any()  # control


def test_dual_clip_worked_example():
    logprobs = torch.tensor([[10.0, 2.0, 10.0]]).log().requires_grad_()
    terms = clipped_surrogate(logprobs, torch.zeros(1, 3), torch.tensor([[-1.0, -1.0, 1.0]]), dual_clip=3.0)
    torch.testing.assert_close(terms.loss, torch.tensor([[3.0, 2.0, -1.2]]))
    assert terms.clipped.tolist() == [[True, False, True]]
    (gradient,) = torch.autograd.grad(terms.loss.sum(), logprobs)
    assert (gradient != 0).tolist() == [[False, True, False]]


def test_a_far_dual_clip_is_none(case):
    _, *tensors = case
    far, none = (clipped_surrogate(*tensors, dual_clip=dual) for dual in (1e9, None))
    assert torch.equal(far.loss, none.loss) and torch.equal(far.clipped, none.clipped)


@pytest.mark.parametrize("epsilons", [(0.05, 0.1), (math.inf, math.inf)])
def test_sequence_ratio_agrees_with_the_sequence_objective(case, epsilons):
    """In value, and in gradient by central differences of the reference."""
    mask, logprobs, old, advantages = case
    advantages_N = advantages.sum(1)
    weights = mask / (8 * mask.sum(1, keepdim=True))

    def ours(logprobs):
        return weights * sequence_surrogate(logprobs, old, advantages_N[:, None] * mask, mask, *epsilons).loss

    def theirs(logprobs):
        return reference.gspo(logprobs.numpy(), old.numpy(), advantages_N.tolist(), mask.numpy(), *epsilons)

    assert ours(logprobs).sum().item() == pytest.approx(theirs(logprobs))
    gradient = gradient_of(ours, logprobs)
    for n, t in mask.nonzero()[::7].tolist():
        moves = [logprobs.clone() for _ in range(2)]
        moves[0][n, t] += 1e-6
        moves[1][n, t] -= 1e-6
        assert gradient[n, t].item() == pytest.approx((theirs(moves[0]) - theirs(moves[1])) / 2e-6, abs=1e-8)
    token = (weights * clipped_surrogate(logprobs, old, advantages_N[:, None] * mask, *epsilons).loss).sum().item()
    assert token != pytest.approx(theirs(logprobs))  # control: token ratios


def test_one_token_makes_the_sequence_ratio_the_token_ratio(case):
    mask, *tensors = case
    mask = mask & (mask.long().cumsum(1) == 1)
    ours = sequence_surrogate(*tensors, mask, 0.2, 0.28)
    token = clipped_surrogate(*tensors, 0.2, 0.28)
    for name in ("loss", "ratio", "clipped"):
        torch.testing.assert_close(getattr(ours, name)[mask], getattr(token, name)[mask])
    gradients = [
        gradient_of(lambda x, f=f: f(x)[mask], tensors[0])
        for f in (
            lambda x: sequence_surrogate(x, *tensors[1:], mask, 0.2, 0.28).loss,
            lambda x: clipped_surrogate(x, *tensors[1:], 0.2, 0.28).loss,
        )
    ]
    torch.testing.assert_close(*gradients)


def test_sequence_ratio_keeps_a_tokens_own_advantage(case):
    mask, logprobs, old, advantages = case
    gradient = gradient_of(
        lambda x: sequence_surrogate(x, old, advantages, mask, math.inf, math.inf).loss[mask], logprobs
    )
    ratio = ((logprobs - old) * mask).sum(1).div(mask.sum(1)).exp().unsqueeze(1)
    torch.testing.assert_close(gradient, -ratio * advantages * mask)


@pytest.mark.parametrize("epsilons", [(1.0, 0.5), (0.2, 0.2), (1.0, 1e9)])
def test_truncated_weights_agree_with_the_equation(case, epsilons):
    mask, logprobs, old, advantages = case
    gradient = gradient_of(lambda x: truncated_surrogate(x, old, advantages, *epsilons).loss, logprobs)
    expected = reference.cispo_gradient(logprobs.numpy(), old.numpy(), advantages.numpy(), *epsilons)
    torch.testing.assert_close(gradient, torch.from_numpy(expected))
    assert (gradient[mask] != 0).all()  # no token falls silent
    clipped = gradient_of(lambda x: clipped_surrogate(x, old, advantages, *epsilons).loss, logprobs)
    if epsilons[1] < 1e9:
        with pytest.raises(AssertionError):  # control: PPO's clip
            torch.testing.assert_close(clipped, gradient)
    else:
        torch.testing.assert_close(clipped, gradient)  # nothing to clip: importance weighting


def test_on_policy_all_are_the_policy_gradient(case):
    mask, logprobs, _, advantages = case
    for loss_of in (
        lambda x: clipped_surrogate(x, logprobs, advantages, dual_clip=3.0).loss,
        lambda x: sequence_surrogate(x, logprobs, advantages, mask).loss,
        lambda x: truncated_surrogate(x, logprobs, advantages).loss,
    ):
        torch.testing.assert_close(gradient_of(loss_of, logprobs), -advantages)


@pytest.mark.parametrize("divergence", [kl_k1, kl_k2, kl_k3])
def test_the_kl_is_the_one_asked_for(case, divergence):
    mask, logprobs, old, advantages = case
    weights = trace_mean_weights(mask).double()
    surrogate = clipped_surrogate(logprobs, old, advantages)
    settings = {"divergence": divergence, "kl_coef": 0.3}
    loss, statistics = surrogate_objective(surrogate, logprobs, old, weights, **settings)
    expected = {f: (weights * f(logprobs, old)).sum() for f in (kl_k1, kl_k2, kl_k3)}
    close = [f for f, value in expected.items() if torch.allclose(statistics["kl"], value, rtol=1e-9)]
    assert close == [divergence]
    torch.testing.assert_close(loss, (weights * surrogate.loss).sum() + 0.3 * expected[divergence])


def test_gradcheck(case):
    _, logprobs, old, advantages = (x[:3] for x in case)
    leaf = logprobs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate(x, old, advantages, dual_clip=1.5).loss, (leaf,))


def test_extreme_ratios_stay_finite():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    for old, advantage in ((-2e4, 1.0), (-2e4, -1.0), (0.0, 1.0), (0.0, -1.0)):
        others = torch.full((1, 4096), old), torch.full((1, 4096), advantage)
        for loss_of in (
            lambda x, others=others: clipped_surrogate(x, *others, dual_clip=3.0).loss,
            lambda x, others=others: sequence_surrogate(x, *others, mask).loss,
            lambda x, others=others: truncated_surrogate(x, *others).loss,
        ):
            logprobs = torch.full((1, 4096), -1e4)
            assert loss_of(logprobs).isfinite().all() and gradient_of(loss_of, logprobs).isfinite().all()


@pytest.mark.parametrize(
    ("surrogate", "settings"),
    [
        (clipped_surrogate, {"dual_clip": 1.0}),
        (truncated_surrogate, {"epsilon": 0.0}),
        (truncated_surrogate, {"epsilon_high": -1.0}),
    ],
)
def test_ranges(surrogate, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        surrogate(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), **settings)
