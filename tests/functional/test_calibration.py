"""Reliability against the loop, scikit-learn and torchmetrics; the temperature against all others."""

import math

import numpy as np
import pytest
import reference_calibration as reference
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import expected_calibration_error, fit_temperature, reliability_sums


@pytest.fixture
def case(generator):
    probabilities = torch.rand(300, generator=generator).double()
    labels = torch.rand(300, generator=generator) < probabilities**2
    return probabilities, labels, torch.randint(0, 20, (300,), generator=generator)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_sums_agree_with_the_loop(case, bins):
    probabilities, labels, questions = case
    probabilities[:4] = torch.tensor([0.0, 1.0, 0.2, 1 / 3])
    sums = reliability_sums(probabilities, labels, questions, bins)
    expected = reference.reliability(probabilities.tolist(), labels.tolist(), bins)
    assert sums.shape == (20, bins, 3)
    assert sums.sum(dim=0).numpy() == pytest.approx(expected)
    assert sums.sum(dim=0).numpy() != pytest.approx(
        reference.reliability((1 - probabilities).tolist(), labels.tolist(), bins)
    )  # control
    own = questions == 3
    alone = reference.reliability(probabilities[own].tolist(), labels[own].tolist(), bins)
    assert sums[3].numpy() == pytest.approx(alone)


def test_the_error_is_the_librarys(case):
    probabilities, labels, questions = case
    ours = expected_calibration_error(reliability_sums(probabilities, labels, questions).sum(dim=0)).item()
    assert ours == pytest.approx(reference.calibration_error(probabilities.tolist(), labels.tolist(), 15))
    assert ours == pytest.approx(binary_calibration_error(probabilities, labels.long(), n_bins=15).item(), abs=1e-6)
    right, mean = calibration_curve(labels.numpy(), probabilities.numpy(), n_bins=15)
    sums = reliability_sums(probabilities, labels, questions).sum(dim=0)
    full = sums[:, 0] > 0
    assert (sums[full, 2] / sums[full, 0]).numpy() == pytest.approx(right)
    assert (sums[full, 1] / sums[full, 0]).numpy() == pytest.approx(mean)
    assert ours != pytest.approx(
        reference.calibration_error(probabilities.tolist(), labels.tolist(), 5), abs=1e-6
    )  # control
    assert expected_calibration_error(torch.zeros(15, 3)).isnan()


def test_the_temperature_is_the_likeliest(generator):
    for scale in (0.3, 4.0):
        scores = torch.randn(200, generator=generator).double() * 2
        labels = torch.rand(200, generator=generator) < torch.sigmoid(scores / scale)
        found = fit_temperature(scores, labels)
        assert found == pytest.approx(reference.temperature(scores.tolist(), labels.tolist()), rel=3e-3)
        best = reference.likelihood(scores.tolist(), labels.tolist(), found)
        for other in (0.98, 1.02):
            assert reference.likelihood(scores.tolist(), labels.tolist(), found * other) < best  # control


def test_the_temperature_has_bounds():
    scores, labels = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([True, True, False])
    assert fit_temperature(scores, labels) == pytest.approx(1e-4), "nothing is wrong: as sure as can be"
    assert fit_temperature(scores, ~labels) == pytest.approx(1e4), "the wrong way round: a half each"
    assert torch.sigmoid(scores / 1e4).numpy() == pytest.approx(np.full(3, 0.5), abs=1e-4)
    assert math.isfinite(fit_temperature(torch.zeros(2), torch.tensor([True, False])))


def test_refusals(case):
    with pytest.raises(ConfigError, match="bins"):
        reliability_sums(*case, bins=0)
    with pytest.raises(DataError, match="differ in shape"):
        fit_temperature(case[0], case[1][1:])
