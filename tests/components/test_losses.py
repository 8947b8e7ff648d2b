import pytest
import torch

from rairl_lightning.components import (
    BinaryCrossEntropy,
    ClippedSurrogate,
    ConstantLength,
    GroupNormalised,
    PerPosition,
    PerTrace,
    TokenMean,
    TraceMean,
)
from rairl_lightning.errors import ConfigError

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
@pytest.mark.parametrize("reduction", [PerTrace(), PerPosition()])
def test_discriminator_micro_batches_add_up(draw, split, reduction):
    component, labels = BinaryCrossEntropy(reduction=reduction), torch.tensor([True, False, False, True])
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


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("normalisation", [TraceMean(), TokenMean(), ConstantLength(max_tokens=7)])
def test_policy_micro_batches_add_up(draw, split, normalisation):
    component = ClippedSurrogate(normalisation=normalisation)
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
    assert len(set(losses)) == 3

    tensors = [draw(), draw(), draw(), draw() + 1]

    def policy(**fields):
        component = ClippedSurrogate(**fields)
        return component(*tensors, component.token_weights(MASK)).loss.item()

    variants = [{}, {"epsilon": 0.1}, {"epsilon_high": 0.3}, {"kl_coef": 0.5}, {"normalisation": TokenMean()}]
    assert len({policy(**fields) for fields in variants}) == len(variants)

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
    ],
)
def test_ranges(component, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        component(**fields)
