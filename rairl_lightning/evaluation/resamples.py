"""Intervals of everything that is counted over traces, when traces of one question are not independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from rairl_lightning.functional.bootstrap import percentile_interval, resampled_counts, resampled_means
from rairl_lightning.functional.ranking import auroc, resampled_auroc

AREA_RESAMPLES = 500

Bounds = list[float]


@dataclass(frozen=True)
class Resamples:
    """The same resamples of Q questions for every figure, so that differences are paired.

    Attributes:
        questions_N: ``[N]`` int64 in 0..Q-1, the question of each trace.
        counts_RQ: ``[R, Q]``, how often each resample draws each question.
    """

    questions_N: Tensor
    counts_RQ: Tensor

    @classmethod
    def draw(cls, questions_N: Tensor, seed: int) -> Self:
        """Resample the questions that there are."""
        names, numbers_N = questions_N.unique(return_inverse=True)
        return cls(numbers_N, resampled_counts(len(names), generator=torch.Generator().manual_seed(seed)))

    @property
    def questions(self) -> int:
        """Q."""
        return self.counts_RQ.shape[1]

    def ratios(self, above_NC: Tensor, below_NC: Tensor) -> tuple[Tensor, Tensor]:
        """C ratios of sums over traces, ``[C]``, and of each resample, ``[R, C]``; NaN where nothing is below."""
        both = torch.cat([above_NC, below_NC], dim=1).double()
        sums_QC = torch.zeros(self.questions, both.shape[1], dtype=torch.float64).index_add(0, self.questions_N, both)
        above, below = resampled_means(sums_QC, self.counts_RQ).chunk(2, dim=1)
        whole_above, whole_below = both.sum(dim=0).chunk(2)
        return whole_above / whole_below, above / below

    def means(self, values_NC: Tensor) -> tuple[Tensor, Tensor]:
        """C means over traces, ``[C]``, and of each resample, ``[R, C]``."""
        return self.ratios(values_NC, torch.ones_like(values_NC))

    def area(self, scores_NK: Tensor, high_NK: Tensor, kept_NK: Tensor) -> Bounds:
        """AUROC of what is kept: how often one that should be high outscores one that should not."""
        questions_M = self.questions_N.unsqueeze(1).expand_as(kept_NK)[kept_NK]
        scores_M, high_M = scores_NK[kept_NK], high_NK[kept_NK]
        draws_R = resampled_auroc(scores_M, high_M, self.counts_RQ[:AREA_RESAMPLES], questions_M)
        return bounds(auroc(scores_M, high_M), draws_R)


def bounds(value: Tensor, draws_R: Tensor) -> Bounds:
    """``[value, low, high]`` with a 95 % percentile interval, rounded to 4 digits."""
    return [round(bound, 4) for bound in percentile_interval(value, draws_R)]
