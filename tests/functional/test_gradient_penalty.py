import numpy as np
import pytest
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import (
    aligned_completions,
    directional_squares,
    masked_mean,
    mixed_embeddings,
    norm_from_squares,
    opposite_rows,
    reward_grid,
    row_noise,
    row_shares,
    squared_gradients,
)

WIDTH = 3


@pytest.fixture
def case(generator, ragged):
    mask = ragged(rows=4)
    embeddings = torch.randn(*mask.shape, WIDTH, dtype=torch.float64, generator=generator)
    return embeddings, mask, reward_grid(mask, every=3)


@pytest.fixture
def logits_of(generator):
    """A little causal network: a position's logit depends on all tokens before it, prompt included."""
    weight = torch.randn(WIDTH, dtype=torch.float64, generator=generator)
    return lambda embeddings: ((embeddings @ weight).cumsum(1) / 4).tanh() + (embeddings[..., 0] ** 2)


def test_agrees_with_differences(case, logits_of):
    """‖∇s‖² against central differences of numpy's, coordinate by coordinate."""
    embeddings, mask, grid = case
    expected = np.zeros(len(mask))
    for n, t in np.argwhere(mask.numpy()):
        for i in range(WIDTH):
            scores = []
            for move in (1e-5, -1e-5):
                moved = embeddings.clone()
                moved[n, t, i] += move
                logits = logits_of(moved)[n].numpy()
                scores.append(logits[grid[n].numpy()].mean())
            expected[n] += ((scores[0] - scores[1]) / 2e-5) ** 2
    ours = squared_gradients(logits_of, *case)
    torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)
    with_prompt = squared_gradients(logits_of, embeddings, torch.ones_like(mask), grid)
    with pytest.raises(AssertionError):  # control: the prompt moves too
        torch.testing.assert_close(with_prompt, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)


def test_it_trains_the_parameters(case):
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)

    def penalty(weight):
        return squared_gradients(lambda e: (e @ weight).tanh(), *case).sum()

    assert torch.autograd.gradcheck(penalty, (weight,))
    with torch.no_grad():  # the score's own gradient is taken even where the caller takes none
        assert penalty(weight) > 0


def test_random_directions_have_the_right_mean(case, logits_of):
    exact = squared_gradients(logits_of, *case)
    draws = torch.stack(
        [directional_squares(logits_of, *case, torch.arange(4) + 4 * i, step=1e-3) for i in range(1500)]
    )
    torch.testing.assert_close(draws.mean(0), exact, rtol=0.2, atol=0)
    with pytest.raises(AssertionError):  # control: without the factor ½ of the two-sided difference
        torch.testing.assert_close(4 * draws.mean(0), exact, rtol=0.2, atol=0)


def test_noise_belongs_to_the_trace(case):
    embeddings, mask, _ = case
    seeds = torch.tensor([5, 6, 7, 8])
    noise = row_noise(seeds, mask, embeddings)
    assert not noise[~mask].any()
    part = torch.tensor([2, 0])
    assert torch.equal(row_noise(seeds[part], mask[part], embeddings[part]), noise[part])
    moved = row_noise(seeds, mask.roll(2, dims=1), embeddings)  # another padding
    assert torch.equal(moved[mask.roll(2, dims=1)], noise[mask])
    assert not torch.equal(row_noise(seeds + 1, mask, embeddings)[0], noise[0])
    shares = row_shares(seeds)
    assert torch.equal(shares[part], row_shares(seeds[part])) and ((shares >= 0) & (shares < 1)).all()


def test_completions_are_laid_over_each_other():
    values = torch.tensor([[[1.0], [2.0], [3.0], [0.0]], [[0.0], [0.0], [7.0], [8.0]]])
    theirs = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]]).bool()
    ours = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    moved, both = aligned_completions(values, theirs, ours)
    assert moved.squeeze(-1).tolist() == [[0, 0, 2, 3, 0], [7, 8, 0, 0, 0]]
    assert both.int().tolist() == [[0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]
    own = torch.full((2, 5, 1), 4.0)
    mixed = mixed_embeddings(own, moved, both, torch.tensor([0.0, 0.75]))
    assert mixed.squeeze(-1).tolist() == [[4, 4, 2, 3, 4], [4.75, 5, 4, 4, 4]]
    assert torch.equal(mixed_embeddings(own, moved, both, torch.ones(2)), own)


def test_partners_are_of_the_other_class(generator):
    labels = torch.tensor([1, 0, 0, 1, 0]).bool()
    for _ in range(20):
        partners = opposite_rows(labels, generator)
        assert (labels[partners] != labels).all()
    assert opposite_rows(torch.ones(3).bool(), generator).tolist() == [0, 1, 2]


def test_a_constant_score_has_a_finite_gradient(case):
    weight = torch.zeros(WIDTH, dtype=torch.float64, requires_grad=True)
    norms = norm_from_squares(squared_gradients(lambda e: e @ weight, *case))
    (gradient,) = torch.autograd.grad(((norms - 1) ** 2).sum(), weight)
    assert gradient.isfinite().all()


def test_long_traces_stay_finite():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    mask[0, 0] = False
    embeddings = torch.full((1, 4096, 2), 50.0)
    score = masked_mean(embeddings[..., 0], mask, dim=1)
    assert score.isfinite().all()
    assert squared_gradients(lambda e: e.sum(-1), embeddings, mask, mask).isfinite().all()
    assert directional_squares(lambda e: e.sum(-1), embeddings, mask, mask, torch.tensor([1]), 0.1).isfinite().all()


def test_ranges_and_shapes(case):
    with pytest.raises(ConfigError, match="step"):
        directional_squares(lambda e: e[..., 0], *case, torch.arange(4), step=0.0)
    with pytest.raises(DataError, match="shape"):
        squared_gradients(lambda e: e[..., 0], case[0][:, 1:], *case[1:])
