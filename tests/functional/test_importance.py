import math

import numpy as np
import pytest
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import clipped_surrogate, gap_statistics, truncated_importance


@pytest.fixture
def case(generator, ragged):
    mask = ragged()
    sampler = -torch.rand(mask.shape, dtype=torch.float64, generator=generator) * mask
    gap = torch.randn(mask.shape, dtype=torch.float64, generator=generator) * mask
    return sampler + gap, sampler, mask


def test_agrees_with_the_equations(case):
    trainer, sampler, mask = (x.numpy() for x in case)
    expected = np.where(mask, np.minimum(np.exp(trainer - sampler), 1.5), 0.0)
    ours = truncated_importance(*case, cap=1.5)
    torch.testing.assert_close(ours, torch.from_numpy(expected))
    with pytest.raises(AssertionError):  # control: the ratio upside down
        torch.testing.assert_close(truncated_importance(case[1], case[0], case[2], cap=1.5), ours)
    gaps = (trainer - sampler)[mask]
    statistics = {name: value.item() for name, value in gap_statistics(*case).items()}
    assert statistics == pytest.approx(
        {
            "gap_mean": np.abs(gaps).mean(),
            "gap_max": np.abs(gaps).max(),
            "gap_kl": np.mean(np.exp(gaps) - 1 - gaps),
            "gap_ratio": np.exp(gaps).mean(),
        }
    )


def test_no_gap_changes_nothing(case):
    _, sampler, mask = case
    assert torch.equal(truncated_importance(sampler, sampler, mask), mask.double())
    assert {name: value.item() for name, value in gap_statistics(sampler, sampler, mask).items()} == {
        "gap_mean": 0,
        "gap_max": 0,
        "gap_kl": 0,
        "gap_ratio": 1,
    }


def test_scaling_the_advantage_scales_the_surrogate(case):
    """So the correction is a factor on advantages, and no loss needs to know of it."""
    trainer, sampler, mask = case
    weights, advantages = truncated_importance(*case), sampler + 0.5
    logprobs = trainer + 0.3
    corrected = clipped_surrogate(logprobs, trainer, weights * advantages, dual_clip=3.0).loss
    expected = weights * clipped_surrogate(logprobs, trainer, advantages, dual_clip=3.0).loss
    torch.testing.assert_close(corrected[mask], expected[mask])


def test_corrects_the_mean():
    """Σ_x q(x) min(p/q, C) g(x) is the trainer's expectation where the cap does not bind, and not without."""
    p, q, g = (torch.tensor(x, dtype=torch.float64) for x in ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [1.0, -2.0, 3.0]))
    weights = truncated_importance(p.log()[None], q.log()[None], torch.ones(1, 3).bool(), cap=2.0)[0]
    torch.testing.assert_close((q * weights * g).sum(), (p * g).sum())
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close((q * g).sum(), (p * g).sum())


def test_what_lies_outside_is_never_read(case):
    trainer, sampler, mask = case
    holes = torch.where(mask, trainer, torch.nan)
    assert torch.equal(truncated_importance(holes, sampler, mask), truncated_importance(*case))
    ours, full = (gap_statistics(x, sampler, mask) for x in (holes, trainer))
    assert all(torch.equal(ours[name], full[name]) for name in full)


def test_long_and_empty_rounds_stay_finite():
    mask = torch.ones(1, 4096, dtype=torch.bool)
    for gap in (1e4, -1e4):
        trainer = torch.full((1, 4096), gap)
        assert truncated_importance(trainer, torch.zeros(1, 4096), mask).isfinite().all()
        assert all(math.isfinite(value) for value in gap_statistics(trainer, torch.zeros(1, 4096), mask).values())
    nothing = torch.zeros(0, 0)
    assert all(value == 0 for value in gap_statistics(nothing, nothing, nothing.bool()).values())


def test_ranges(case):
    with pytest.raises(ConfigError, match="cap"):
        truncated_importance(*case, cap=0.5)
