"""Everything that a reranking says, from scored questions to plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.calibration import Calibration, Fitted, NoCalibration, reliability
from rairl_lightning.evaluation.overlap import questions_trained_on
from rairl_lightning.evaluation.reranking.figures import area_figures, choice_figures
from rairl_lightning.evaluation.reranking.partition import (
    Partition,
    chosen_pooling,
    fitted_calibration,
    selection_facts,
)
from rairl_lightning.evaluation.reranking.pool import TracePool, oddities, pool_of

HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class RerankingReport:
    """Figures of the reported questions; intervals are ``[value, low, high]``, 95 % by bootstrap over questions.

    Attributes:
        pooling: the rewards' pooling; ``chosen`` by name, and what each was ``measured`` at on selection questions.
        selection: how much there was to choose and fit on.
        counts: questions and traces reported, and how many are out of the ordinary.
        pass_at_k: unbiased, by k, over the questions with at least k traces.
        pass_at_k_questions: how many these are.
        best_of: by N, see :func:`~rairl_lightning.evaluation.reranking.figures.choice_figures`.
        auroc: of the reward against correctness, ``overall`` and ``within_question``, of the traces with a reward;
            ``counts`` has the others under ``traces_without_reward``.
        calibration: its name and parameters, and the error ``before`` (of ``σ(reward)``) and ``after``.
        rewards: histogram of the finite rewards, ``edges`` and counts of ``right`` and ``wrong`` traces.
    """

    pooling: dict[str, Any]
    selection: dict[str, int]
    counts: dict[str, int | None]
    pass_at_k: dict[str, list[float]]
    pass_at_k_questions: dict[str, int]
    best_of: dict[str, Any]
    auroc: dict[str, list[float]]
    calibration: dict[str, Any]
    rewards: dict[str, list[float]]

    def figures(self) -> dict[str, Any]:
        """As plain values, for the summary."""
        plain = asdict(self)
        return {name.replace("pass_at_k", "pass@k"): value for name, value in plain.items()}


def report_of(
    partition: Partition,
    poolings: Sequence[str],
    calibration: Calibration,
    sizes: Sequence[int],
    seed: int,
    trained_on: QuestionHashes = QuestionHashes(),
) -> tuple[RerankingReport, Fitted]:
    """Choose and fit on the selection questions, then judge the reported ones.

    Args:
        partition: scored questions by use.
        poolings: names to choose from; each question has a reward of each.
        calibration: from reward to probability.
        sizes: the N of Best-of-N; those that no question has traces for are left out.
        seed: of subsets and resamples.
        trained_on: questions of the reward; empty where it does not say.

    Returns:
        The report, and the calibration that was fitted.

    Raises:
        DataError: no trace has a grade, or there is nothing to fit on.
    """
    pooling, measured = chosen_pooling(partition, poolings)
    fitted = fitted_calibration(partition, pooling, calibration)
    pool = pool_of(partition.reported, pooling)
    if not len(pool):
        raise DataError(
            "No trace could be graded, so nothing is known of any choice.",
            expected="at least one trace that is right, wrong or unanswered",
            got=f"{sum(len(one.sampled.grades) for one in partition.reported)} traces of unknown grade",
            remedy="give a grader that can read these answers",
        )
    prompts = [one.sampled.question.prompt for one in partition.reported]
    best_of, pass_at_k, asked = choice_figures(pool, sizes, seed)
    report = RerankingReport(
        pooling={"chosen": pooling, "measured": measured},
        selection=selection_facts(partition),
        counts={**questions_trained_on(trained_on, prompts), **oddities(partition.reported, pooling)},
        pass_at_k=pass_at_k,
        pass_at_k_questions=asked,
        best_of=best_of,
        auroc=area_figures(pool, seed),
        calibration={
            "method": type(calibration).__name__,
            "parameters": fitted.parameters,
            "before": _reliability(pool, NoCalibration().fit(pool.rewards_M, pool.correct_M), seed),
            "after": _reliability(pool, fitted, seed),
        },
        rewards=_histogram(pool),
    )
    return report, fitted


def _reliability(pool: TracePool, fitted: Fitted, seed: int) -> dict[str, Any]:
    rewards_M, correct_M, questions_M = pool.rewarded
    _, units_M = pool.units_Q[questions_M].unique(return_inverse=True)
    return reliability(fitted.probability(rewards_M), correct_M, units_M, seed)


def _histogram(pool: TracePool) -> dict[str, list[float]]:
    rewards_M, correct_M, _ = pool.rewarded
    low, high = (float(rewards_M.min()), float(rewards_M.max())) if len(rewards_M) else (0.0, 0.0)
    edges = torch.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1, dtype=torch.float64)
    bin_M = torch.bucketize(rewards_M, edges[1:-1], right=True)
    counts = {
        name: torch.bincount(bin_M[correct_M == right], minlength=HISTOGRAM_BINS).tolist()
        for name, right in (("right", True), ("wrong", False))
    }
    return {"edges": [round(edge, 6) for edge in edges.tolist()], **counts}
