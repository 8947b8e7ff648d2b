import numpy as np
import pytest
import reference_ranking as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import (
    bootstrap_interval,
    paired_bootstrap,
    percentile_interval,
    resampled_counts,
    resampled_means,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_matches_the_normal_interval_for_many_questions(generator):
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    half = 1.96 * values.std(unbiased=False).item() / 20
    mean, low, high = bootstrap_interval(values, generator=generator, resamples=4000)
    assert mean == pytest.approx(values.mean().item())
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.1)
    narrow = bootstrap_interval(values, generator=generator, level=0.8)
    assert (mean - narrow.low, narrow.high - mean) != pytest.approx((half, half), rel=0.1)  # control


def test_pairing_removes_the_questions_own_difficulty(generator):
    difficulty = torch.randn(100, generator=generator)
    gain = paired_bootstrap(difficulty + 0.1, difficulty, generator=generator)
    assert gain.low == pytest.approx(0.1, abs=1e-6) and gain.high == pytest.approx(0.1, abs=1e-6)
    alone = bootstrap_interval(difficulty + 0.1, generator=generator)
    assert alone.high - alone.low > 0.2  # control


def test_randomness_is_the_generators():
    values = torch.arange(9.0)
    assert bootstrap_interval(values, generator=seeded()) == bootstrap_interval(values, generator=seeded())
    assert bootstrap_interval(values, generator=seeded()) != bootstrap_interval(values, generator=seeded(1))
    state = torch.get_rng_state()
    bootstrap_interval(values, generator=seeded())
    assert torch.equal(state, torch.get_rng_state())


def test_refusals():
    with pytest.raises(DataError, match="bootstrapped"):
        bootstrap_interval(torch.tensor([]), generator=seeded())
    with pytest.raises(DataError, match="1 NaN"):
        bootstrap_interval(torch.tensor([1.0, float("nan")]), generator=seeded())
    with pytest.raises(ConfigError, match="level"):
        bootstrap_interval(torch.ones(2), generator=seeded(), level=1.0)
    with pytest.raises(DataError, match="differ in shape"):
        paired_bootstrap(torch.ones(2), torch.ones(3), generator=seeded())


def test_counts_are_resamples():
    counts = resampled_counts(5, generator=seeded(), resamples=4000)
    assert counts.shape == (4000, 5) and (counts.sum(dim=1) == 5).all() and (counts >= 0).all()
    draws = counts.double()
    assert draws.mean().item() == 1
    # Multinomial(5; 1/5 each): variance 5 · 1/5 · 4/5, covariance -5 · 1/25.
    expected = np.full((5, 5), -0.2) + np.eye(5)
    found = np.cov(draws.numpy(), rowvar=False)
    assert found == pytest.approx(expected, abs=0.08)
    assert found != pytest.approx(np.eye(5), abs=0.08)  # control: independent counts
    with pytest.raises(ConfigError, match="count"):
        resampled_counts(0, generator=seeded())
    with pytest.raises(ConfigError, match="resamples"):
        resampled_counts(1, generator=seeded(), resamples=0)


def test_means_and_quantiles_agree_with_the_loop(generator):
    values = torch.randn(6, 2, generator=generator).double()
    counts = resampled_counts(6, generator=generator, resamples=40)
    means = resampled_means(values, counts)
    rows = counts.tolist()
    for column in range(2):
        expected = [np.mean(reference.drawn(values[:, column].tolist(), row)) for row in rows]
        assert means[:, column].tolist() == pytest.approx(expected)
        assert means[:, 1 - column].tolist() != pytest.approx(expected)  # control
        found = percentile_interval(values[:, column].mean(), means[:, column], 0.9)
        assert found[1:] == pytest.approx([np.quantile(expected, 0.05), np.quantile(expected, 0.95)])
    holes = torch.cat([means[:, 0], torch.tensor([float("nan")])])
    assert percentile_interval(torch.tensor(0.0), holes) == percentile_interval(torch.tensor(0.0), means[:, 0])
