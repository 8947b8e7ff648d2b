import pytest
import torch

from rairl_lightning.components import (
    BinaryCrossEntropy,
    ClippedSurrogate,
    ConstantLength,
    EntropyBonus,
    EstimateK1,
    GroupNormalised,
    Hinge,
    Pairwise,
    PerPosition,
    SequenceSurrogate,
    TokenMean,
    TraceMean,
    TruncatedSurrogate,
    Wasserstein,
)
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import bernoulli_entropy, local_rivals

LABELS = torch.tensor([True, False, False, True])
RIVALS = torch.tensor([-1, 0, 0, 0])  # row 3 agrees with the demonstration in row 0: a tie
SPLITS = [[[0], [1], [2], [3]], [[3, 1], [2, 0]], [[1, 2, 3], [0]]]
MASK = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 1, 1, 1]]).bool()


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(MASK.shape, dtype=torch.float64, generator=generator)


def whole_and_split(tensor, split, loss_of):
    leaf = tensor.clone().requires_grad_()
    for rows in ([[0, 1, 2, 3]], split):
        loss = sum(loss_of(leaf, rows_of) for rows_of in rows)
        yield loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "component",
    [
        BinaryCrossEntropy(),
        BinaryCrossEntropy(reduction=PerPosition(), expert_share=0.3),
        Wasserstein(),
        Hinge(margin=0.7, expert_share=0.6),
        EntropyBonus(Hinge(), 0.1),
    ],
)
def test_discriminator_micro_batches_add_up(draw, split, component):
    labels = LABELS
    weights = component.trace_weights(labels, MASK.sum(1))
    whole, parts = whole_and_split(
        draw(), split, lambda leaf, rows: component(leaf[rows], labels[rows], MASK[rows], weights[rows])
    )
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)

    def anew(leaf, rows):
        return component(leaf[rows], labels[rows], MASK[rows], component.trace_weights(labels[rows], MASK[rows].sum(1)))

    whole, parts = whole_and_split(draw(), split, anew)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("component", [Pairwise(0.1), EntropyBonus(Pairwise(), 0.1)])
@pytest.mark.parametrize("budget", [1, 8, 12, 100])
def test_pairs_add_up_as_the_loss_splits_them(draw, component, budget):
    weights = component.trace_weights(LABELS, MASK.sum(1), RIVALS)
    split = component.micro_batches(MASK.sum(1), RIVALS, budget)

    def loss_of(leaf, rows):
        rows = torch.as_tensor(rows)
        return component(leaf[rows], LABELS[rows], MASK[rows], weights[rows], local_rivals(RIVALS, rows))

    whole, parts = whole_and_split(draw(), split, loss_of)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    whole, parts = whole_and_split(draw(), [*split, split[0]], loss_of)
    with pytest.raises(AssertionError):  # control: a pair too many
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("component", [BinaryCrossEntropy(), Hinge(), EntropyBonus()])
def test_losses_that_compare_nothing_split_by_tokens(component):
    rows = [part.tolist() for part in component.micro_batches(MASK.sum(1), None, 6)]
    assert rows == [[1], [3, 0], [2]]


def test_pairs_need_their_demonstrations():
    for call in (
        lambda: Pairwise().trace_weights(LABELS, MASK.sum(1)),
        lambda: Pairwise().micro_batches(MASK.sum(1), None, 9),
        lambda: Pairwise()(torch.zeros(MASK.shape), LABELS, MASK, torch.ones(4)),
    ):
        with pytest.raises(ConfigError, match="does not know which demonstration"):
            call()


def test_an_entropy_bonus_is_what_it_adds(draw):
    logits, plain = draw(), BinaryCrossEntropy()
    weights = plain.trace_weights(LABELS, MASK.sum(1))
    arguments = logits, LABELS, MASK, weights
    bonus = plain(*arguments) - EntropyBonus(plain, 0.5)(*arguments)
    expected = 0.5 * (weights * (bernoulli_entropy(logits) * MASK).sum(1)).sum()
    torch.testing.assert_close(bonus, expected)
    leaf = logits.clone().requires_grad_()
    EntropyBonus(Wasserstein(), 1e6)(leaf, *arguments[1:]).backward()
    assert (leaf.grad.sign() == logits.sign())[MASK].all()  # a large bonus pulls every logit to 0


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("normalisation", [TraceMean(), TokenMean(), ConstantLength(max_tokens=7)])
@pytest.mark.parametrize("kind", [ClippedSurrogate, SequenceSurrogate, TruncatedSurrogate])
def test_policy_micro_batches_add_up(draw, split, normalisation, kind):
    component = kind(normalisation=normalisation)
    weights, others = component.token_weights(MASK), [draw() for _ in range(3)]

    def loss_of(leaf, rows, weigh):
        return component(leaf[rows], *(x[rows] for x in others), weigh(rows)).loss

    whole, parts = whole_and_split(draw(), split, lambda leaf, rows: loss_of(leaf, rows, lambda r: weights[r]))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    anew = whole_and_split(
        draw(), split, lambda leaf, rows: loss_of(leaf, rows, lambda r: component.token_weights(MASK[r]))
    )
    whole, parts = anew
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_fields_reach_the_equations(draw):
    """Every knob changes the result, so none is dead."""
    logits, labels = draw(), torch.tensor([True, False, False, True])

    def discriminator(**fields):
        component = BinaryCrossEntropy(**fields)
        return component(logits, labels, MASK, component.trace_weights(labels, MASK.sum(1))).item()

    losses = [discriminator(), discriminator(label_smoothing=0.2), discriminator(reduction=PerPosition())]
    assert len({*losses, discriminator(expert_share=0.4)}) == 4

    def loss(component):
        return component(logits, labels, MASK, component.trace_weights(labels, MASK.sum(1), RIVALS), RIVALS).item()

    variants = [
        *(Wasserstein(), Wasserstein(PerPosition()), Wasserstein(expert_share=0.4)),
        *(Hinge(), Hinge(margin=2.0), Hinge(reduction=PerPosition()), Hinge(expert_share=0.4)),
        *(Pairwise(), Pairwise(0.1), EntropyBonus(), EntropyBonus(coef=0.1), EntropyBonus(Hinge())),
    ]
    assert len({loss(component) for component in variants}) == len(variants)

    tensors = [draw(), draw(), draw(), draw() + 1]

    def policy(kind, **fields):
        component = kind(**fields)
        return component(*tensors, component.token_weights(MASK)).loss.item()

    common = [{}, {"kl_coef": 0.5}, {"normalisation": TokenMean()}, {"kl": EstimateK1()}]
    own = {
        ClippedSurrogate: [{"epsilon": 0.1}, {"epsilon_high": 0.3}, {"dual_clip": 1.1}],
        SequenceSurrogate: [{"epsilon": 0.1}, {"epsilon_high": 0.3}],
        TruncatedSurrogate: [{"epsilon": 0.1}, {"epsilon_high": 0.3}],
    }
    for kind, fields in own.items():
        assert len({policy(kind, **some) for some in (*common, *fields)}) == len(common) + len(fields), kind

    rewards = draw()
    small, large = (GroupNormalised(eps=eps)(rewards, MASK, 2) for eps in (1e-4, 1.0))
    assert small.abs().sum() > large.abs().sum()


def test_statistics_are_detached_and_the_loss_is_not(draw):
    component, leaf = ClippedSurrogate(kl_coef=0.0), draw().requires_grad_()
    output = component(leaf, draw(), None, draw(), component.token_weights(MASK))
    assert output.loss.requires_grad
    assert not any(value.requires_grad for value in output.statistics.values())


@pytest.mark.parametrize(
    ("component", "fields"),
    [
        (BinaryCrossEntropy, {"label_smoothing": 0.5}),
        (BinaryCrossEntropy, {"label_smoothing": -0.1}),
        (ClippedSurrogate, {"epsilon": 0.0}),
        (ClippedSurrogate, {"epsilon_high": float("nan")}),
        (ClippedSurrogate, {"kl_coef": -1.0}),
        (ConstantLength, {"max_tokens": 0}),
        (GroupNormalised, {"eps": -1.0}),
        (BinaryCrossEntropy, {"expert_share": 1.0}),
        (Wasserstein, {"expert_share": 0.0}),
        (Hinge, {"margin": 0.0}),
        (Hinge, {"expert_share": 0.0}),
        (Pairwise, {"label_smoothing": 0.5}),
        (EntropyBonus, {"coef": 0.0}),
        (ClippedSurrogate, {"dual_clip": 1.0}),
        (SequenceSurrogate, {"epsilon": 0.0}),
        (SequenceSurrogate, {"epsilon_high": 0.0}),
        (SequenceSurrogate, {"kl_coef": -1.0}),
        (TruncatedSurrogate, {"epsilon": 0.0}),
        (TruncatedSurrogate, {"epsilon_high": 0.0}),
        (TruncatedSurrogate, {"kl_coef": -1.0}),
    ],
)
def test_ranges(component, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        component(**fields)
