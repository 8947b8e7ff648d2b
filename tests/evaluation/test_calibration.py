"""From reward to probability: what is fitted, and how wrong it still is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from torchmetrics.functional.classification import binary_calibration_error

from rairl_lightning.evaluation.calibration import Isotonic, NoCalibration, Temperature, reliability
from rairl_lightning.functional.calibration import reliability_sums


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards four times as sure as they may be."""
    generator = torch.Generator().manual_seed(3)
    rewards = 4 * torch.randn(2000, generator=generator).double()
    correct = torch.rand(2000, generator=generator) < torch.sigmoid(rewards / 4)
    return rewards, correct, torch.arange(2000) // 4


def test_no_calibration_is_the_discriminators_probability(case: tuple) -> None:
    rewards, correct, _ = case
    fitted = NoCalibration().fit(rewards, correct)
    assert torch.equal(fitted.probability(rewards), torch.sigmoid(rewards)) and fitted.parameters == {}
    assert not NoCalibration().needs_data and Temperature().needs_data and Isotonic().needs_data


def test_a_temperature_is_found_again(case: tuple) -> None:
    rewards, correct, _ = case
    fitted = Temperature().fit(rewards, correct)
    assert fitted.parameters["temperature"] == pytest.approx(4, rel=0.1)
    assert fitted.probability(torch.zeros(1)).item() == 0.5
    assert torch.equal(fitted.probability(rewards).argsort(), rewards.argsort()), "no order changes"


def test_isotonic_is_scikit_learns(case: tuple) -> None:
    rewards, correct, _ = case
    fitted = Isotonic().fit(rewards[:1000], correct[:1000])
    model = IsotonicRegression(out_of_bounds="clip").fit(rewards[:1000].numpy(), correct[:1000].numpy())
    assert fitted.probability(rewards[1000:]).numpy() == pytest.approx(model.predict(rewards[1000:].numpy()))
    ends = fitted.probability(torch.tensor([-1e9, 1e9], dtype=torch.float64)).tolist()
    assert ends == [fitted.parameters["knots"][0][1], fitted.parameters["knots"][-1][1]]
    heights = [y for _, y in fitted.parameters["knots"]]
    assert heights == sorted(heights) and len(set(heights)) > 3
    assert len(fitted.probability(torch.zeros(0))) == 0


@pytest.mark.parametrize("calibration", [Temperature(), Isotonic()])
def test_calibration_helps_on_traces_it_has_not_seen(case: tuple, calibration: Temperature | Isotonic) -> None:
    rewards, correct, questions = case
    unseen = slice(1000, None)
    before, after = (
        reliability(
            one.fit(rewards[:1000], correct[:1000]).probability(rewards[unseen]), correct[unseen], questions[:1000], 0
        )
        for one in (NoCalibration(), calibration)
    )
    truth = (torch.sigmoid(rewards[unseen]) - torch.sigmoid(rewards[unseen] / 4)).abs().mean().item()
    assert 0.12 < before["ece"][1] < truth < before["ece"][2] and after["ece"][0] < 0.06 < before["ece"][0]
    assert after["brier"][0] < before["brier"][0]


def test_the_figures_are_the_librarys(case: tuple) -> None:
    rewards, correct, questions = case
    probabilities = torch.sigmoid(rewards / 2)
    found = reliability(probabilities, correct, questions, 0)
    expected = binary_calibration_error(probabilities, correct.long(), n_bins=15).item()
    assert found["ece"][0] == pytest.approx(expected, abs=1e-4)
    squares = (probabilities - correct.double()) ** 2
    assert found["brier"][0] == pytest.approx(squares.mean().item(), abs=1e-4)
    generator = torch.Generator().manual_seed(9)
    per_question = squares.reshape(-1, 4).mean(dim=1)
    means = [per_question[torch.randint(500, (500,), generator=generator)].mean().item() for _ in range(2000)]
    assert found["brier"][1:] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)
    assert found["brier"][1:] != pytest.approx(np.quantile(means, [0.25, 0.75]), abs=0.004)  # control
    assert sum(one["traces"] for one in found["curve"]) == 2000
    for one in found["curve"]:
        inside = (probabilities >= one["low"] - 5e-5) & (probabilities < one["high"] - 5e-5)
        assert one["low"] <= one["probability"] <= one["high"]
        assert one["right"][0] == pytest.approx(correct[inside].double().mean().item(), abs=0.02)
        assert one["right"][1] <= one["right"][0] <= one["right"][2]


def test_the_error_of_what_is_calibrated_is_not_sure() -> None:
    """Its estimate is above zero by chance alone, and a percentile interval above that again."""
    percentile_holds_estimate = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        probabilities = torch.sigmoid(torch.randn(400, generator=generator).double())
        correct, questions = torch.rand(400, generator=generator) < probabilities, torch.arange(400) // 4
        value, low, high = reliability(probabilities, correct, questions, seed)["ece"]
        assert 0 <= low <= value <= high <= 1
        sums = reliability_sums(probabilities, correct, questions).numpy()
        drawn = np.random.default_rng(seed).multinomial(100, [0.01] * 100, size=300) @ sums.reshape(100, -1)
        bins = drawn.reshape(300, -1, 3)
        errors = np.abs(bins[..., 1] - bins[..., 2]).sum(axis=1) / bins[..., 0].sum(axis=1)
        below, above = np.quantile(errors, [0.025, 0.975])
        percentile_holds_estimate += below <= value
        assert low == pytest.approx(max(0, 2 * value - above), abs=0.015)
        assert low < 0.6 * min(value, below)
    assert percentile_holds_estimate < 20  # control


def test_nothing_to_judge() -> None:
    found = reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), 0)
    assert found["curve"] == [] and np.isnan(found["ece"]).all() and np.isnan(found["brier"]).all()
