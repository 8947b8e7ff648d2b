"""From a pool of traces to the figures of a report, each as ``[value, low, high]`` with a 95 % bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.evaluation.reranking.pool import TracePool
from rairl_lightning.evaluation.resamples import Resamples, bounds
from rairl_lightning.functional.ranking import grouped_wins

BASELINES = ("random", "majority")
"""What every rule's gain is given over."""


def choice_figures(
    pool: TracePool, sizes: Sequence[int], seed: int
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, int]]:
    """Every rule at every N, and pass@k; an N for which no question has enough traces is left out.

    Args:
        pool: Q questions.
        sizes: the N, which are also the k of pass@k, besides k = 1.
        seed: of subsets and resamples.

    Returns:
        By N: ``all``, ``macro`` (mean of categories) and ``categories``, each with ``questions``, ``right`` and the
        gains ``over_random`` and ``over_majority`` by rule, and how many questions were ``left_out`` because they
        have fewer traces. Unbiased pass@k by k, over the questions with at least k traces, and how many
        questions these are.
    """
    best_of, pass_at_k, asked = {}, {}, {}
    for n in sorted({1, *sizes}):
        values, questions = pool.chosen_right(n, seed)
        if not len(questions):
            continue
        units = pool.units_Q[questions]
        mean, draws = Resamples.draw(units, seed).means(values["oracle"].unsqueeze(1))
        pass_at_k[str(n)], asked[str(n)] = bounds(mean[0], draws[:, 0]), len(questions)
        if n in sizes:
            categories = [pool.categories[question] for question in questions.tolist()]
            best_of[str(n)] = {"left_out": len(pool) - len(questions), **_sections(values, categories, units, seed)}
    return best_of, pass_at_k, asked


def area_figures(pool: TracePool, seed: int) -> dict[str, list[float]]:
    """AUROC of the reward against correctness: over all pairs of traces, and over the pairs within a question.

    Traces without a finite reward are left out; Best-of-N ranks them last, and ``counts`` has their number.
    """
    scores_M, right_M, questions_M = pool.rewarded
    if not len(scores_M):
        return {name: [math.nan] * 3 for name in ("overall", "within_question")}
    traces = Resamples.draw(pool.units_Q[questions_M], seed)
    columns = (scores_M, right_M, torch.ones_like(right_M))
    wins_Q, pairs_Q = grouped_wins(scores_M, right_M, questions_M)
    within = Resamples.draw(pool.units_Q[questions_M.unique()], seed)
    value_1, draws_R1 = within.ratios(wins_Q.unsqueeze(1), pairs_Q.unsqueeze(1))
    return {
        "overall": traces.area(*(column.unsqueeze(1) for column in columns)),
        "within_question": bounds(value_1[0], draws_R1[:, 0]),
    }


def _sections(values: dict[str, Tensor], categories: Sequence[str], units: Tensor, seed: int) -> dict[str, Any]:
    names, table = _columns(values)
    names_of = sorted(set(categories))
    whole = {"questions": len(categories), **_section(names, *Resamples.draw(units, seed).means(table))}
    if len(names_of) < 2:
        return {"all": whole, "macro": {}, "categories": {}}
    parts = {}
    for offset, category in enumerate(names_of, start=1):  # independent resamples: the macro mean is stratified
        rows = torch.tensor([one == category for one in categories])
        parts[category] = (int(rows.sum()), *Resamples.draw(units[rows], seed + offset).means(table[rows]))
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


def _section(names: list[tuple[str, str]], means_C: Tensor, draws_RC: Tensor) -> dict[str, dict[str, list[float]]]:
    section: dict[str, dict[str, list[float]]] = {}
    for column, (part, rule) in enumerate(names):
        section.setdefault(part, {})[rule] = bounds(means_C[column], draws_RC[:, column])
    return section
