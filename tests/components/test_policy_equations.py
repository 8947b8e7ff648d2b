"""Every policy loss against its equation, in value, gradient and statistics, under every normalisation and KL."""

from itertools import product

import numpy as np
import pytest
import reference_policy as reference
import torch

from rairl_lightning.components import (
    ClippedSurrogate,
    ConstantLength,
    EstimateK1,
    EstimateK2,
    EstimateK3,
    KLInReward,
    NoPenalty,
    SequenceSurrogate,
    TokenMean,
    TraceMean,
    TruncatedImportance,
    TruncatedSurrogate,
    Uncorrected,
)
from rairl_lightning.functional import (
    clipped_surrogate,
    constant_length_weights,
    gap_statistics,
    kl_k1,
    kl_k2,
    kl_k3,
    sequence_surrogate,
    surrogate_objective,
    token_mean_weights,
    trace_mean_weights,
    truncated_importance,
    truncated_surrogate,
)

LOSSES = {  # our class and its settings; in the reference: kind, lower and upper epsilon, dual clip
    ClippedSurrogate: [
        ({"epsilon": 0.2}, ("ppo", 0.2, 0.2, None)),
        ({"epsilon": 0.2, "epsilon_high": 0.28}, ("ppo", 0.2, 0.28, None)),
        ({"epsilon": 0.2, "epsilon_high": 0.28, "dual_clip": 1.4}, ("ppo", 0.2, 0.28, 1.4)),
    ],
    SequenceSurrogate: [
        ({"epsilon": 0.1, "epsilon_high": None}, ("gspo", 0.1, 0.1, None)),
        ({"epsilon": 0.1, "epsilon_high": 0.15}, ("gspo", 0.1, 0.15, None)),
    ],
    TruncatedSurrogate: [
        ({"epsilon": 1.0, "epsilon_high": 0.5}, ("cispo", 1.0, 0.5, None)),
        ({"epsilon": 0.2, "epsilon_high": 0.5}, ("cispo", 0.2, 0.5, None)),
    ],
}
NORMALISATIONS = {"grpo": TraceMean(), "dapo": TokenMean(), "dr_grpo": ConstantLength(max_tokens=13)}
ESTIMATES = {"k1": EstimateK1(), "k2": EstimateK2(), "k3": EstimateK3()}
EXACT = {"rtol": 1e-6, "atol": 1e-9}  # the weights are float32
CLOSE = {"rel": 1e-6, "abs": 2e-8}


@pytest.fixture
def case(draw, mask):
    """Log-probabilities of policy, sampler and reference, and an advantage of every token, none of them alike."""
    logprobs = -draw(*mask.shape).abs()
    return [x * mask for x in (logprobs, logprobs + 0.4 * draw(*mask.shape), logprobs + 0.4 * draw(*mask.shape))] + [
        draw(*mask.shape) * mask
    ]


def traces(case, mask):
    return [tuple(tensor[n, mask[n]].numpy() for tensor in case) for n in range(len(mask))]


def padded(rows, mask):
    out = torch.zeros(mask.shape, dtype=torch.float64)
    for n, row in enumerate(rows):
        out[n, mask[n]] = torch.as_tensor(row, dtype=torch.float64)
    return out


def ours(component, case, mask):
    leaf = case[0].clone().requires_grad_()
    output = component(leaf, *case[1:], component.token_weights(mask))
    return output.loss.item(), torch.autograd.grad(output.loss, leaf)[0], output.statistics


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_agree_with_the_equations(kind, case, mask):
    rows = traces(case, mask)
    variants = list(product([theirs for some in LOSSES.values() for _, theirs in some], NORMALISATIONS, ESTIMATES))
    expected = {v: reference.objective(rows, *v[0], v[1], 13, v[2], 0.3) for v in variants}
    own = [(settings, v) for settings, theirs in LOSSES[kind] for v in variants if v[0] == theirs]
    for settings, variant in own:
        component = kind(**settings, normalisation=NORMALISATIONS[variant[1]], kl=ESTIMATES[variant[2]], kl_coef=0.3)
        loss, gradient, statistics = ours(component, case, mask)
        _, gradients, totals = expected[variant]
        torch.testing.assert_close(gradient, padded(gradients, mask), **EXACT)
        other = next(v for v in variants if v[1] != variant[1])
        with pytest.raises(AssertionError):  # control
            torch.testing.assert_close(gradient, padded(expected[other][1], mask), **EXACT)
        assert {name: value.item() for name, value in statistics.items()} == pytest.approx(totals, **CLOSE)
        close = [v for v, (value, *_) in expected.items() if loss == pytest.approx(value, **CLOSE)]
        assert close == [variant]  # and all other losses, bounds, lengths and KLs, as controls, are told apart


def test_the_hand_derived_gradients_are_those_of_the_values(case, mask):
    """The reference against itself; stop-gradients are held at the point of departure, as the papers write them."""
    policy, old, ref, advantages = (x[2, mask[2]].numpy() for x in case)
    for settings in (("ppo", 0.2, 0.28, None), ("ppo", 0.2, 0.28, 1.4)):

        def value(x, settings=settings):
            return reference.surrogate(settings[0], x, old, advantages, *settings[1:])[0].sum()

        slope = reference.surrogate(settings[0], policy, old, advantages, *settings[1:])[1]
        np.testing.assert_allclose(reference.differences(value, policy), slope, atol=1e-7)
        with pytest.raises(AssertionError):  # control
            np.testing.assert_allclose(reference.differences(value, policy), 1.001 * slope, atol=1e-7)
    # GSPO with one advantage A: d(s A)/d log pi_t = s A / L, of which token t's share of the mean is s A / L.
    one = np.full(len(policy), 0.7)

    def sequence(x):
        return np.mean(reference.surrogate("gspo", x, old, one, 9.0, 9.0)[0])

    slope = reference.surrogate("gspo", policy, old, one, 9.0, 9.0)[1] / len(policy)
    np.testing.assert_allclose(reference.differences(sequence, policy), slope, atol=1e-8)
    # CISPO: the weight is a constant, taken at the point of departure.
    weights = np.clip(np.exp(policy - old), 0.0, 1.5)
    held = reference.differences(lambda x: np.sum(-weights * advantages * x), policy)
    np.testing.assert_allclose(held, reference.surrogate("cispo", policy, old, advantages, 1.0, 0.5)[1], atol=1e-7)
    for estimate in ESTIMATES:
        slope = reference.kl(estimate, policy, ref)[1] * np.ones(len(policy))
        found = reference.differences(lambda x, e=estimate: np.sum(reference.kl(e, x, ref)[0]), policy)
        np.testing.assert_allclose(found, slope, atol=1e-7)


@pytest.mark.parametrize(
    ("function", "settings", "theirs"),
    [
        (clipped_surrogate, {"epsilon": 0.2, "epsilon_high": 0.28, "dual_clip": 1.4}, ("ppo", 0.2, 0.28, 1.4)),
        (sequence_surrogate, {"epsilon": 0.1, "epsilon_high": 0.15}, ("gspo", 0.1, 0.15, None)),
        (truncated_surrogate, {"epsilon": 0.2, "epsilon_high": 0.5}, ("cispo", 0.2, 0.5, None)),
    ],
)
def test_tokens_agree_with_the_equations(function, settings, theirs, case, mask):
    """Loss, ratio and flag of every token by itself."""
    policy, old, _, advantages = case
    masks = [mask] if function is sequence_surrogate else []
    terms = function(policy, old, advantages, *masks, **settings)
    columns = [reference.surrogate(theirs[0], p, o, a, *theirs[1:]) for p, o, _, a in traces(case, mask)]
    loss, _, ratio, clipped = (padded(column, mask) for column in zip(*columns, strict=True))
    torch.testing.assert_close(terms.loss * mask, loss)
    torch.testing.assert_close(terms.ratio * mask, ratio)
    assert torch.equal(terms.clipped & mask, clipped.bool()) and 0 < clipped.sum() < mask.sum()
    tighter = function(policy, old, advantages, *masks, **{**settings, "epsilon_high": 0.05})
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(tighter.loss * mask, loss)


def test_weights_agree_with_the_equations(mask):
    lengths = mask.sum(1).tolist()
    functions = {
        "grpo": trace_mean_weights,
        "dapo": token_mean_weights,
        "dr_grpo": lambda kept: constant_length_weights(kept, 13),
    }
    expected = {
        name: padded([np.full(lengths[n], reference.weight(name, lengths, n, 13)) for n in range(8)], mask).float()
        for name in functions
    }
    for name, function in functions.items():
        close = [other for other, values in expected.items() if torch.allclose(function(mask), values, rtol=1e-6)]
        assert close == [name]  # controls: the other two
        assert torch.equal(NORMALISATIONS[name](mask), function(mask))


@pytest.mark.parametrize("name", ESTIMATES)
def test_divergences_agree_with_the_equations(name, case):
    policy, _, ref, _ = case
    functions = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
    expected = {e: torch.from_numpy(reference.kl(e, policy.numpy(), ref.numpy())[0]) for e in functions}
    close = [e for e, values in expected.items() if torch.allclose(functions[name](policy, ref), values)]
    assert close == [name]  # controls: the other two
    assert torch.equal(ESTIMATES[name](policy, ref), functions[name](policy, ref))


def test_the_expected_gradients_of_the_estimators():
    """Under samples of pi: k1's is 0, k2's that of KL(pi || pi_ref), k3's that of KL(pi_ref || pi)."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
    ref = torch.tensor([-0.5, 0.4, 1.0, 0.0], dtype=torch.float64)
    forward, backward = (
        torch.from_numpy(reference.differences(lambda x, b=b: reference.exact_kl(x, ref.numpy(), b), logits.numpy()))
        for b in (False, True)
    )
    exact = {"k1": torch.zeros(4, dtype=torch.float64), "k2": forward, "k3": backward}
    for name, estimate in ESTIMATES.items():
        leaf = logits.clone().requires_grad_()
        policy = leaf.log_softmax(0)
        loss = (policy.detach().exp() * estimate(policy, ref.log_softmax(0))).sum()  # the samples are given
        (gradient,) = torch.autograd.grad(loss, leaf)
        close = [e for e, values in exact.items() if torch.allclose(gradient, values, atol=1e-8)]
        assert close == [name]  # control: the other two gradients


def test_near_the_reference_k3_is_k2(case):
    policy = case[0]
    for size, same in ((1e-4, True), (1.0, False)):
        near = policy + size * case[3]
        close = torch.allclose(kl_k3(policy, near), kl_k2(policy, near), rtol=1e-3, atol=1e-12)
        assert close is same  # and far from it, as a control, it is not


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_kl_in_the_reward_agrees_with_the_equation(name, case, mask):
    policy, _, ref, rewards = case
    expected = {
        e: padded([a - 0.5 * reference.kl(e, p, r)[0] for p, _, r, a in traces(case, mask)], mask) for e in ESTIMATES
    }
    found = KLInReward(0.5, ESTIMATES[name])(rewards, policy, ref, mask)
    assert [e for e, values in expected.items() if torch.allclose(found, values)] == [name]  # controls: the other two
    assert torch.equal(KLInReward(1e-300, ESTIMATES[name])(rewards, policy, ref, mask), rewards)
    assert torch.equal(NoPenalty()(rewards, policy, None, mask), rewards)


def test_the_samplers_gap_agrees_with_the_equations(case, mask):
    trainer, sampler, *_ = case
    rows = [
        [reference.truncated_weight(t, s, 1.3) for t, s in zip(*row[:2], strict=True)] for row in traces(case, mask)
    ]
    expected = padded(rows, mask)
    torch.testing.assert_close(truncated_importance(trainer, sampler, mask, cap=1.3), expected)
    torch.testing.assert_close(TruncatedImportance(1.3)(trainer, sampler, mask), expected)
    for wrong in (truncated_importance(sampler, trainer, mask, 1.3), truncated_importance(trainer, sampler, mask, 1.4)):
        with pytest.raises(AssertionError):  # controls: upside down, another cap
            torch.testing.assert_close(wrong, expected)
    capless = TruncatedImportance(1e9)(trainer, trainer, mask)
    assert torch.equal(capless, Uncorrected()(None, sampler, mask))
    statistics = {key: value.item() for key, value in gap_statistics(trainer, sampler, mask).items()}
    assert statistics == pytest.approx(reference.gap(trainer[mask].tolist(), sampler[mask].tolist()))
    assert statistics != pytest.approx(reference.gap(sampler[mask].tolist(), trainer[mask].tolist()))  # control


def test_the_objective_agrees_with_the_equation(case, mask):
    policy, old, ref, advantages = case
    weights, terms = token_mean_weights(mask).double(), clipped_surrogate(policy, old, advantages, 0.2, 0.28)
    loss, statistics = surrogate_objective(terms, policy, ref, weights, divergence=kl_k2, kl_coef=0.7)
    settings = ("ppo", 0.2, 0.28, None, "dapo", 13, "k2")
    value, _, totals = reference.objective(traces(case, mask), *settings, 0.7)
    assert loss.item() == pytest.approx(value, rel=1e-7)
    assert {name: value.item() for name, value in statistics.items()} == pytest.approx(totals, rel=1e-7)
    other, *_ = reference.objective(traces(case, mask), *settings, 0.71)
    assert loss.item() != pytest.approx(other, rel=1e-7)  # control


def test_traces_of_one_length_weigh_alike_however_they_are_normalised(case):
    mask = torch.zeros(4, 9, dtype=torch.bool)
    mask[:, 2:8] = True
    assert torch.equal(TraceMean()(mask), TokenMean()(mask))
    assert torch.equal(TraceMean()(mask), ConstantLength(max_tokens=6)(mask))
    mask[0, 7] = False
    assert not torch.equal(TraceMean()(mask), TokenMean()(mask))  # control


@pytest.mark.parametrize("kind", LOSSES)
def test_on_policy_the_gradient_is_that_of_reinforce(kind, case, mask):
    """At the policy that sampled, every surrogate has the gradient -A, whatever bounds it."""
    policy, _, _, advantages = case
    component = kind(kl_coef=0.0)
    _, gradient, _ = ours(component, [policy, policy, None, advantages], mask)
    weights = component.token_weights(mask)
    torch.testing.assert_close(gradient, -weights * advantages, **EXACT)
    _, moved, _ = ours(component, [policy, case[1], None, advantages], mask)
    with pytest.raises(AssertionError):  # control: off policy
        torch.testing.assert_close(moved, -weights * advantages, **EXACT)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_long_traces_stay_finite(kind, gap):
    mask = torch.ones(2, 4096, dtype=torch.bool)
    policy = torch.full((2, 4096), -2e4)
    advantages = torch.tensor([[1.0], [-1.0]]).expand(2, 4096)
    for estimate in ESTIMATES.values():
        case = [policy, policy + gap, policy - gap, advantages]
        loss, gradient, statistics = ours(kind(kl=estimate), case, mask)
        assert np.isfinite(loss) and gradient.isfinite().all()
        assert all(value.isfinite() for value in statistics.values())
