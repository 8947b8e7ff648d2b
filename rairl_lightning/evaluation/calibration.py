"""From a reward to a probability of being right: fitted on some questions, judged on others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.functional.bootstrap import basic_interval, percentile_interval, resampled_counts
from rairl_lightning.functional.calibration import (
    BINS,
    expected_calibration_error,
    fit_temperature,
    reliability_sums,
)

Curve = Callable[[Tensor], Tensor]
RESAMPLES = 500


@dataclass(frozen=True)
class Fitted:
    """A calibration whose parameters are known.

    Attributes:
        probability: from rewards ``[M]``, finite, to probabilities ``[M]`` float64.
        parameters: what was fitted, as plain values for the report.
    """

    probability: Curve
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Calibration(ABC):
    """A family of curves from reward to probability; one frozen dataclass each, named in YAML."""

    @abstractmethod
    def fit(self, rewards_M: Tensor, correct_M: Tensor) -> Fitted:
        """Choose a curve.

        Args:
            rewards_M: ``[M]`` pooled rewards, finite, of traces that are reported nowhere; M >= 1.
            correct_M: ``[M]`` bool.
        """

    @property
    def needs_data(self) -> bool:
        """Whether anything is fitted."""
        return True


@dataclass(frozen=True)
class NoCalibration(Calibration):
    """The discriminator's own probability ``σ(reward)``; nothing is fitted, every question is reported.

    Of ``Product``, whose score is the logarithm of a probability and at most 0, it is no probability: at most a half.
    """

    def fit(self, rewards_M: Tensor, correct_M: Tensor) -> Fitted:
        """Read nothing."""
        return Fitted(lambda rewards: torch.sigmoid(rewards.double()), {})

    @property
    def needs_data(self) -> bool:
        """No."""
        return False


@dataclass(frozen=True)
class Temperature(Calibration):
    """``σ(reward / τ)`` with the likeliest τ > 0 (arXiv 1706.04599): the order stays, and a reward of 0 is a half."""

    def fit(self, rewards_M: Tensor, correct_M: Tensor) -> Fitted:
        """Find τ."""
        temperature = fit_temperature(rewards_M, correct_M)
        return Fitted(lambda rewards: torch.sigmoid(rewards.double() / temperature), {"temperature": temperature})


@dataclass(frozen=True)
class Isotonic(Calibration):
    """The non-decreasing curve with the least squared error (scikit-learn's); needs some hundred traces."""

    def fit(self, rewards_M: Tensor, correct_M: Tensor) -> Fitted:
        """Pool adjacent violators; a reward beyond those seen takes the nearest one's probability."""
        from sklearn.isotonic import IsotonicRegression  # takes a second, which --help should not

        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        model.fit(rewards_M.double().numpy(), correct_M.double().numpy())

        def probability(rewards: Tensor) -> Tensor:
            return torch.from_numpy(model.predict(rewards.double().numpy())) if len(rewards) else rewards.double()

        knots = torch.tensor([model.X_thresholds_.tolist(), model.y_thresholds_.tolist()]).T.tolist()
        return Fitted(probability, {"knots": knots})


def reliability(probabilities_M: Tensor, correct_M: Tensor, questions_M: Tensor, seed: int) -> dict[str, Any]:
    """How far the probabilities are from the share that is right.

    Chance alone makes the calibration error of a sample greater than the true one, and a resample's greater again: its
    interval is therefore the percentile interval reflected at the estimate, within [0, 1], and extended to the estimate
    where that lies above it. Of what is perfectly calibrated its low end is near 0, not always 0. The others are
    percentile intervals.

    Args:
        probabilities_M: ``[M]`` in [0, 1].
        correct_M: ``[M]`` bool.
        questions_M: ``[M]`` int64, 0..Q-1; the bootstrap resamples questions with all of their traces.
        seed: of the resamples.

    Returns:
        ``ece`` and ``brier`` (mean squared error) as ``[value, low, high]``, and the ``curve``: one entry a bin that
        holds a trace, with its ``low`` and ``high`` edge, ``traces``, mean ``probability`` and share ``right``.
    """
    sums_QK3 = reliability_sums(probabilities_M, correct_M, questions_M)
    errors_M = (probabilities_M.double() - correct_M.double()).square()
    count = len(sums_QK3)
    if not count:
        return {"ece": [float("nan")] * 3, "brier": [float("nan")] * 3, "curve": []}
    counts_RQ = resampled_counts(count, generator=torch.Generator().manual_seed(seed), resamples=RESAMPLES).double()
    errors_Q = errors_M.new_zeros(count).index_add(0, questions_M, errors_M)
    traces_Q = sums_QK3[..., 0].sum(dim=1)
    sums_K3 = sums_QK3.sum(dim=0)
    drawn_RK3 = (counts_RQ @ sums_QK3.flatten(1)).unflatten(1, (BINS, 3))
    return {
        "ece": _error_bounds(expected_calibration_error(sums_K3), expected_calibration_error(drawn_RK3)),
        "brier": _bounds(errors_M.mean(), (counts_RQ @ errors_Q) / (counts_RQ @ traces_Q)),
        "curve": [_bin(position, row, drawn_RK3[:, position]) for position, row in enumerate(sums_K3) if float(row[0])],
    }


def _bin(position: int, sums_3: Tensor, drawn_R3: Tensor) -> dict[str, Any]:
    traces, probability, _ = sums_3.tolist()
    return {
        "low": round(position / BINS, 4),
        "high": round((position + 1) / BINS, 4),
        "traces": int(traces),
        "probability": round(probability / traces, 4),
        "right": _bounds(sums_3[2] / traces, drawn_R3[:, 2] / drawn_R3[:, 0]),
    }


def _error_bounds(value: Tensor, draws_R: Tensor) -> list[float]:
    mean, low, high = basic_interval(value, draws_R)
    return [round(bound, 4) for bound in (mean, max(0.0, low), min(1.0, max(mean, high)))]


def _bounds(value: Tensor, draws_R: Tensor) -> list[float]:
    return [round(bound, 4) for bound in percentile_interval(value, draws_R)]
