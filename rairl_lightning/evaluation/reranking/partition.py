"""What may be fitted on, and what is reported: no question is in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rairl_lightning.data.demonstrations.base import check_disjoint, hold_out
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.calibration import Calibration, Fitted
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion, pool_of
from rairl_lightning.functional.ranking import grouped_auroc


@dataclass(frozen=True)
class Partition:
    """Scored questions by use.

    Attributes:
        reported: all figures are of these.
        selection: all that is fitted or chosen is fitted or chosen on these.

    Raises:
        DataError: nothing is left to report, or a question is in both.
    """

    reported: tuple[ScoredQuestion, ...]
    selection: tuple[ScoredQuestion, ...] = ()

    def __post_init__(self) -> None:
        if not any(one.sampled.completions for one in self.reported):
            raise DataError("There is nothing to rerank.", expected="at least one question with a trace", got=0)
        check_disjoint(*((one.sampled.question for one in part) for part in (self.selection, self.reported)))

    @classmethod
    def by_hash(cls, scored: Sequence[ScoredQuestion], fraction: float) -> Partition:
        """Hold a fraction of the questions out for selection, by a hash of the question alone.

        Args:
            scored: all questions.
            fraction: in [0, 1); 0 holds out nothing.
        """
        reported, selection = hold_out(scored, fraction, lambda one: one.sampled.question.prompt, salt="rerank")
        return cls(reported, selection)


def chosen_pooling(partition: Partition, names: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The pooling with the highest AUROC within the selection questions; the first of equals.

    Traces without a finite reward are left out.

    Args:
        partition: only its selection is read.
        names: of the poolings to choose from; one alone is not measured.

    Returns:
        The chosen name, and what each was measured at; NaN, which loses, where no question has both kinds of traces.
    """
    if len(names) == 1:
        return names[0], {}
    _require(partition, "choose a pooling on")
    areas = {}
    for name in names:
        areas[name] = float(grouped_auroc(*pool_of(partition.selection, name).rewarded))
    return max(names, key=lambda name: areas[name] if areas[name] == areas[name] else -1.0), areas


def fitted_calibration(partition: Partition, pooling: str, calibration: Calibration) -> Fitted:
    """Fit on the selection questions' traces that have a grade and a finite reward.

    Args:
        partition: only its selection is read.
        pooling: which of the rewards.
        calibration: the family.
    """
    if not calibration.needs_data:
        return calibration.fit(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    _require(partition, "fit a calibration on")
    rewards_M, correct_M, _ = pool_of(partition.selection, pooling).rewarded
    if not len(rewards_M):
        raise DataError("No selection trace has a grade and a reward.", expected="at least 1", got=0)
    return calibration.fit(rewards_M, correct_M)


def selection_facts(partition: Partition) -> dict[str, Any]:
    """How much there was to fit on."""
    chosen = partition.selection
    return {"questions": len(chosen), "traces": sum(len(one.sampled.completions) for one in chosen)}


def _require(partition: Partition, use: str) -> None:
    if not partition.selection:
        raise DataError(
            f"There are no questions to {use}.",
            expected="selection questions, apart from the reported ones",
            got=0,
            remedy="raise selection_fraction or give --selection; or take NoCalibration and one pooling",
        )
