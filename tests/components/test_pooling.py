import math

import numpy as np
import pytest
import torch

from rairl_lightning.components import Last, MeanOverGrid, Minimum, Product, TokenWeighted
from rairl_lightning.functional import backfill, log_product, reward_grid

POOLINGS = {  # of the rewards of the segments and of their lengths
    TokenWeighted(): lambda rewards, lengths: np.average(rewards, weights=lengths),
    MeanOverGrid(): lambda rewards, lengths: np.mean(rewards),
    Last(): lambda rewards, lengths: rewards[-1],
    Minimum(): lambda rewards, lengths: min(rewards),
    Product(): lambda rewards, lengths: np.log(np.prod([1 / (1 + np.exp(-r)) for r in rewards])),
}


@pytest.mark.parametrize("every", [1, 3, 4])
def test_agrees_with_its_words(mask, draw, every):
    grid = reward_grid(mask, every=every)
    values = 2 * draw(*mask.shape)
    results = {}
    for pooling, words in POOLINGS.items():
        expected = []
        for n in range(len(mask)):
            places = np.flatnonzero(grid[n])
            lengths = np.diff([np.flatnonzero(mask[n])[0] - 1, *places])
            expected.append(words([values[n, t].item() for t in places], lengths))
        results[pooling] = pooling(values, grid, mask)
        torch.testing.assert_close(results[pooling], torch.tensor(expected, dtype=torch.float64))
        torch.testing.assert_close(pooling(backfill(values, grid, mask), grid, mask), results[pooling])
        holes = torch.where(grid, values, torch.nan)
        torch.testing.assert_close(pooling(holes, grid, mask), results[pooling])
    distinct = {tuple(scores.tolist()) for scores in results.values()}
    assert len(distinct) == len(POOLINGS) - (every == 1)  # controls: dense token weights are plain means, no others


def test_one_segment_leaves_nothing_to_choose(mask, draw):
    grid, values = reward_grid(mask), draw(*mask.shape)
    last = Last()(values, grid, mask)
    for pooling in (TokenWeighted(), MeanOverGrid(), Minimum()):
        torch.testing.assert_close(pooling(values, grid, mask), last)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_empty_and_long_rows(pooling):
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert pooling(torch.full((2, 3), torch.nan), nothing, nothing).tolist() == [0.0, 0.0]
    ones = torch.ones(1, 4096, dtype=torch.bool)
    assert pooling(torch.full((1, 4096), -1e3), ones, ones).isfinite().all()


def test_a_product_is_of_probabilities():
    ones = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.tensor([[math.log(3.0), math.log(4.0)]])
    assert log_product(logits, ones).exp().item() == pytest.approx(0.75 * 0.8)


def test_a_vote_weighs_by_probability():
    scores = torch.tensor([[-1.5, 0.0]])
    for pooling in POOLINGS:
        weights = pooling.log_weight(scores).exp()
        torch.testing.assert_close(weights, scores.exp() if pooling == Product() else scores.sigmoid())
