import pytest
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import bootstrap_interval, paired_bootstrap


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
