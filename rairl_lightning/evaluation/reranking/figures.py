"""From a pool of traces to the figures of a report, each as ``[value, low, high]`` with a 95 % bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.evaluation.reranking.pool import TracePool
from rairl_lightning.functional.bootstrap import percentile_interval, resampled_counts, resampled_means
from rairl_lightning.functional.ranking import auroc, grouped_auroc, grouped_wins, resampled_auroc

BASELINES = ("random", "majority")
"""What every rule's gain is given over."""
AREA_RESAMPLES = 500


def choice_figures(pool: TracePool, sizes: Sequence[int], seed: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Every rule at every N, and pass@k; an N for which no question has enough traces is left out.

    Args:
        pool: Q questions.
        sizes: the N, which are also the k of pass@k, besides k = 1.
        seed: of subsets and resamples.

    Returns:
        By N: ``all``, ``macro`` (mean of categories) and ``categories``, each with ``questions``, ``right`` and the
        gains ``over_random`` and ``over_majority`` by rule, and how many questions were ``left_out`` because they
        have fewer traces. Unbiased pass@k by k, over the questions with at least k traces.
    """
    best_of, pass_at_k = {}, {}
    for n in sorted({1, *sizes}):
        values, questions = pool.chosen_right(n, seed)
        if not len(questions):
            continue
        mean, draws = _means(values["oracle"].unsqueeze(1), seed)
        pass_at_k[str(n)] = _bounds(mean[0], draws[:, 0])
        if n in sizes:
            categories = [pool.categories[question] for question in questions.tolist()]
            best_of[str(n)] = {"left_out": len(pool) - len(questions), **_sections(values, categories, seed)}
    return best_of, pass_at_k


def area_figures(pool: TracePool, seed: int) -> dict[str, list[float]]:
    """AUROC of the reward against correctness: over all pairs of traces, and over the pairs within a question.

    Traces without a finite reward are left out; Best-of-N ranks them last, and ``counts`` has their number.
    """
    scores, labels, questions = pool.rewarded
    if not len(scores):
        return {name: [math.nan] * 3 for name in ("overall", "within_question")}
    counts = resampled_counts(int(questions[-1]) + 1, generator=_generator(seed), resamples=AREA_RESAMPLES)
    wins_Q, pairs_Q = grouped_wins(scores, labels, questions)
    means = resampled_means(torch.stack([wins_Q, pairs_Q], dim=1), counts)
    return {
        "overall": _bounds(auroc(scores, labels), resampled_auroc(scores, labels, counts, questions)),
        "within_question": _bounds(grouped_auroc(scores, labels, questions), means[:, 0] / means[:, 1]),
    }


def _sections(values: dict[str, Tensor], categories: Sequence[str], seed: int) -> dict[str, Any]:
    names, table = _columns(values)
    names_of = sorted(set(categories))
    whole = {"questions": len(categories), **_section(names, *_means(table, seed))}
    if len(names_of) < 2:
        return {"all": whole, "macro": {}, "categories": {}}
    parts = {}
    for offset, category in enumerate(names_of, start=1):  # independent resamples: the macro mean is stratified
        rows = torch.tensor([one == category for one in categories])
        parts[category] = (int(rows.sum()), *_means(table[rows], seed + offset))
    centre = torch.stack([mean for _, mean, _ in parts.values()]).mean(dim=0)
    draws = torch.stack([draws for _, _, draws in parts.values()]).mean(dim=0)
    return {
        "all": whole,
        "macro": {"questions": len(categories), **_section(names, centre, draws)},
        "categories": {
            category: {"questions": count, **_section(names, mean, draws)}
            for category, (count, mean, draws) in parts.items()
        },
    }


def _columns(values: dict[str, Tensor]) -> tuple[list[tuple[str, str]], Tensor]:
    """Every rule, and every rule less each baseline, as columns that are resampled together."""
    columns = {("right", rule): value for rule, value in values.items()}
    for baseline in BASELINES:
        for rule, value in values.items():
            if rule not in (baseline, "random", "oracle"):
                columns[f"over_{baseline}", rule] = value - values[baseline]
    return list(columns), torch.stack(list(columns.values()), dim=1)


def _means(table_QC: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    counts = resampled_counts(len(table_QC), generator=_generator(seed))
    return table_QC.mean(dim=0), resampled_means(table_QC, counts)


def _section(names: list[tuple[str, str]], means_C: Tensor, draws_RC: Tensor) -> dict[str, dict[str, list[float]]]:
    section: dict[str, dict[str, list[float]]] = {}
    for column, (part, rule) in enumerate(names):
        section.setdefault(part, {})[rule] = _bounds(means_C[column], draws_RC[:, column])
    return section


def _bounds(value: Tensor, draws_R: Tensor) -> list[float]:
    return [round(bound, 4) for bound in percentile_interval(value, draws_R)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
