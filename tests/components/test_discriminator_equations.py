"""Every discriminator loss against its equation, in value and gradient, under every reduction and class share."""

from functools import partial
from itertools import product

import pytest
import reference_adversarial as reference
import torch

from rairl_lightning.components import (
    BinaryCrossEntropy,
    EntropyBonus,
    Hinge,
    MeanLogprob,
    NoLogprob,
    Pairwise,
    PerPosition,
    PerTrace,
    SingleHead,
    TwoHead,
    Wasserstein,
)
from rairl_lightning.functional import (
    bernoulli_entropy,
    class_shares,
    discriminator_statistics,
    hinge_losses,
    pair_weights,
    pairwise_loss,
    per_position_weights,
    per_trace_weights,
    reward_grid,
    smoothed_bce,
    wasserstein_losses,
    weighted_grid_sum,
)

LABELS = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()  # row 2 is a rollout that agrees: a tie
RIVALS = torch.tensor([-1, -1, 0, 0, 0, 1, 1, -1])
REDUCTIONS = {True: PerTrace(), False: PerPosition()}
LOSSES = {
    "bce": (partial(BinaryCrossEntropy, 0.1), partial(reference.bce, smoothing=0.1)),
    "sharp": (partial(BinaryCrossEntropy, 0.0), reference.bce),
    "wasserstein": (Wasserstein, reference.wasserstein),
    "hinge": (partial(Hinge, 0.7), partial(reference.hinge, margin=0.7)),
}
CLOSE = {"rel": 1e-6, "abs": 2e-8}  # the weights are float32


@pytest.fixture
def case(draw, mask):
    return 2 * draw(*mask.shape), LABELS, reward_grid(mask, every=3)


def value_and_gradient(component, case, rivals=RIVALS):
    logits, labels, grid = case
    leaf = logits.clone().requires_grad_()
    loss = component(leaf, labels, grid, component.trace_weights(labels, grid.sum(1), rivals), rivals)
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def expected_of(case, variant):
    logits, labels, grid = (x.numpy() for x in case)
    name, share, per_trace = variant
    return reference.class_mean(LOSSES[name][1], logits, labels, grid, share, per_trace)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_with_the_equations(name, case):
    variants = list(product(LOSSES, (0.5, 0.3), (True, False)))
    expected = {v: expected_of(case, v) for v in variants}
    for variant in (v for v in variants if v[0] == name):
        component = LOSSES[name][0](reduction=REDUCTIONS[variant[2]], expert_share=variant[1])
        loss, gradient = value_and_gradient(component, case)
        assert [v for v, value in expected.items() if loss == pytest.approx(value, **CLOSE)] == [variant]  # controls
        if variant[1] == 0.5:
            continue  # once is enough for the many evaluations of the differences

        def theirs(x, variant=variant):
            return expected_of((torch.from_numpy(x), *case[1:]), variant)

        slope = torch.from_numpy(reference.differences(theirs, case[0].numpy()))
        torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-8)
        with pytest.raises(AssertionError):  # control
            torch.testing.assert_close(gradient, 1.001 * slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pairs_agree_with_the_equation(case, smoothing):
    arrays = [x.numpy() for x in (*case, RIVALS)]

    def theirs(logits, smoothing=smoothing):
        return reference.pairwise(logits, *arrays[1:], smoothing)

    loss, gradient = value_and_gradient(Pairwise(smoothing), case)
    assert loss == pytest.approx(theirs(arrays[0]), **CLOSE)
    assert loss != pytest.approx(theirs(arrays[0], smoothing + 0.01), **CLOSE)  # control
    slope = torch.from_numpy(reference.differences(theirs, arrays[0]))
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-8)
    with pytest.raises(AssertionError):  # control: the relativistic gap upside down
        torch.testing.assert_close(gradient, -slope, rtol=1e-5, atol=1e-8)
    weights = pair_weights(case[2].sum(1), RIVALS)
    assert pairwise_loss(*case, weights, RIVALS, smoothing).item() == pytest.approx(loss)


def test_an_entropy_bonus_agrees_with_the_equation(case):
    arrays = [x.numpy() for x in case]
    for per_trace, reduction in REDUCTIONS.items():
        loss, _ = value_and_gradient(EntropyBonus(Hinge(reduction=reduction), 0.3), case)
        expected = {
            coef: reference.class_mean(reference.hinge, *arrays, 0.5, per_trace)
            - coef * reference.class_mean(reference.entropy, *arrays, 0.5, per_trace)
            for coef in (0.3, 0.31, -0.3)
        }
        assert [c for c, value in expected.items() if loss == pytest.approx(value, **CLOSE)] == [0.3]  # controls
    loss, _ = value_and_gradient(EntropyBonus(Pairwise(0.1), 0.3), case)
    bonus = reference.paired_entropy(arrays[0], arrays[2], RIVALS.numpy())
    assert loss == pytest.approx(reference.pairwise(*arrays, RIVALS.numpy(), 0.1) - 0.3 * bonus, **CLOSE)


def test_an_entropy_bonus_weighs_positions_as_its_loss_does(case):
    """Its docstring: positions weigh as in that loss. With p = 0.3 the positives' entropy is to weigh 0.3 too."""
    arrays = [x.numpy() for x in case]
    loss, _ = value_and_gradient(EntropyBonus(Hinge(expert_share=0.3), 0.3), case)
    hinge, entropy = (reference.class_mean(f, *arrays, 0.3, True) for f in (reference.hinge, reference.entropy))
    assert loss == pytest.approx(hinge - 0.3 * entropy, **CLOSE)


@pytest.mark.parametrize("per_trace", REDUCTIONS)
def test_parts_agree_with_the_equations(case, per_trace):
    """The pure functions one by one; a position may be at an undecided 0."""
    logits, labels, grid = case[0].clone(), *case[1:]
    logits[grid] = logits[grid].index_fill(0, torch.tensor([0, 3, 6]), 0.0)
    arrays = [x.numpy() for x in (logits, labels, grid)]
    weights = (per_trace_weights if per_trace else per_position_weights)(labels, grid.sum(1))
    assert torch.equal(weights, REDUCTIONS[per_trace](labels, grid.sum(1)))
    found = {name: x.item() for name, x in discriminator_statistics(logits, labels, grid, weights.double()).items()}
    assert found == pytest.approx(reference.statistics(*arrays, per_trace), **CLOSE)
    assert found != pytest.approx(reference.statistics(*arrays, not per_trace), **CLOSE)  # control
    bce = partial(reference.bce, smoothing=0.2)
    functions = {
        "bce": (smoothed_bce(logits, labels, 0.2), bce),
        "wasserstein": (wasserstein_losses(logits, labels), reference.wasserstein),
        "hinge": (hinge_losses(logits, labels, 0.7), partial(reference.hinge, margin=0.7)),
        "entropy": (bernoulli_entropy(logits), reference.entropy),
    }
    for name, (losses, _) in functions.items():
        shares = class_shares(labels, 0.3)
        found = weighted_grid_sum(losses, grid, weights * shares).item()
        expected = {other: reference.class_mean(f, *arrays, 0.3, per_trace) for other, (_, f) in functions.items()}
        assert [o for o, value in expected.items() if found == pytest.approx(value, **CLOSE)] == [name]  # controls


def test_traces_with_as_many_positions_weigh_alike_however_they_are_reduced(draw):
    grid = torch.ones(4, 3, dtype=torch.bool)
    case = draw(4, 3), LABELS[1:5], grid
    for loss in (BinaryCrossEntropy, Wasserstein, Hinge):
        per_trace, per_position = (value_and_gradient(loss(reduction=r), case) for r in REDUCTIONS.values())
        torch.testing.assert_close(per_trace, per_position)
    grid[0, 0] = False
    losses = [value_and_gradient(BinaryCrossEntropy(reduction=r), case)[0] for r in REDUCTIONS.values()]
    assert losses[0] != pytest.approx(losses[1])  # control


def test_within_its_margin_the_hinge_is_wasserstein(case):
    near = 0.1 * case[0].tanh(), *case[1:]
    hinge, plain = (value_and_gradient(loss, near) for loss in (Hinge(), Wasserstein()))
    assert hinge[0] - 1 == pytest.approx(plain[0], abs=1e-6)
    torch.testing.assert_close(hinge[1], plain[1])
    far = value_and_gradient(Hinge(0.01), near)
    with pytest.raises(AssertionError):  # control: beyond it
        torch.testing.assert_close(far[1], plain[1])


def test_a_pair_against_a_demonstration_at_zero_is_cross_entropy():
    """With s_e = 0, BCE(s_e - s_n, 1 - ε) is the negative's own BCE(s_n, ε)."""
    ones, rivals, labels = torch.ones(2, 1).bool(), torch.tensor([-1, 0]), torch.tensor([True, False])
    for score, smoothing in product((-1.5, 0.7), (0.0, 0.1)):
        case = torch.tensor([[0.0], [score]], dtype=torch.float64), labels, ones
        pair, _ = value_and_gradient(Pairwise(smoothing), case, rivals)
        assert pair == pytest.approx(reference.bce(score, False, smoothing))
        assert pair != pytest.approx(reference.bce(score, True, smoothing + 0.01))  # control


@pytest.mark.parametrize("critic", [SingleHead(MeanLogprob()), TwoHead(gamma=0.7), SingleHead(NoLogprob())])
def test_the_best_reward_is_the_experts_log_density(critic):
    """AIRL (arXiv 1710.11248): where D = exp(f) / (exp(f) + π), ½E_expert and ½E_π of the BCE are least at f = log p.

    Traces of one token from a vocabulary of three, in the frequencies of expert and policy. Without log π in the
    logit (the paper's discriminator) the optimum is the log ratio instead.
    """
    expert, policy = torch.tensor([3, 1, 2]), torch.tensor([1, 4, 1])
    tokens = torch.cat([torch.arange(3).repeat_interleave(n) for n in (expert, policy)])
    labels = torch.arange(12) < 6
    density, sampling = ((n / 6).double().log() for n in (expert, policy))
    logprobs = torch.zeros(12, 2, dtype=torch.float64)
    logprobs[:, 1] = sampling[tokens]
    mask = torch.tensor([[False, True]]).expand(12, 2)

    def slope(f_V):
        leaf = f_V.clone().requires_grad_()
        f_NT = torch.stack([torch.zeros(12), leaf[tokens]], dim=1)
        potential = torch.full_like(f_NT, 0.4)  # terminal 0, so the shaping is -h(prompt) = -0.4
        outputs = torch.stack([f_NT + 0.4, potential], dim=-1) if isinstance(critic, TwoHead) else f_NT
        loss = BinaryCrossEntropy(label_smoothing=0.0)
        logits = critic.logits(outputs, logprobs, mask, mask)
        return torch.autograd.grad(loss(logits, labels, mask, loss.trace_weights(labels, mask.sum(1))), leaf)[0]

    best = density if critic.needs_logprobs else density - sampling
    torch.testing.assert_close(slope(best), torch.zeros(3).double(), rtol=0, atol=1e-8)
    wrong = density - sampling if critic.needs_logprobs else density
    with pytest.raises(AssertionError):  # control: the other discriminator's optimum
        torch.testing.assert_close(slope(wrong), torch.zeros(3).double(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_long_traces_stay_finite(size):
    grid = torch.ones(2, 4096, dtype=torch.bool)
    labels, rivals = torch.tensor([True, False]), torch.tensor([-1, 0])
    logits = torch.stack([torch.full((4096,), size), torch.full((4096,), -size)])
    losses = [BinaryCrossEntropy(), Wasserstein(), Hinge(), Pairwise(0.1), EntropyBonus(), EntropyBonus(Pairwise())]
    for component in losses:
        loss, gradient = value_and_gradient(component, (logits, labels, grid), rivals)
        assert abs(loss) < 3e4 and gradient.isfinite().all() and gradient.dtype == torch.float32
