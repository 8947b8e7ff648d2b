"""Where a trace goes wrong, on demonstrations corrupted at a known span (the paper's protocol)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rairl_lightning.functional.first_error import broken_rows
from rairl_lightning.functional.grid import reward_grid, segment_ids
from rairl_lightning.functional.localisation import chance, hits, largest_drop, nearby, score_drops, span_tokens
from rairl_lightning.functional.retrieval import average_precision, greatest_of_units, reciprocal_rank
from rairl_lightning.types import Perturbed

METHODS = ("reward", "logprob_drop", "chance")
LEVELS = ("token", "interval", "step")
WITHIN_TOKENS = 7
WITHIN_INTERVALS = 1


class Reading(NamedTuple):
    """Scores in which a drop is looked for.

    Attributes:
        scores_NT: ``[N, T]``, low is bad; 0 stands before the first.
        grid_NT: ``[N, T]`` bool, where they are read.
    """

    scores_NT: Tensor
    grid_NT: Tensor


class Found(NamedTuple):
    """How well N traces were localised at one level, ``[N]`` float64 each; 0 where a score points nowhere.

    Attributes:
        hit: 1 where the largest drop, the earliest on a tie, lies in the target (Hit@1).
        reciprocal_rank: of the first unit of the target when all are ranked by their largest drop (MRR).
        average_precision: over all units of the target (MAP).
    """

    hit: Tensor
    reciprocal_rank: Tensor
    average_precision: Tensor


class Located(NamedTuple):
    """What a method points at.

    Attributes:
        columns_N: ``[N]`` int64, column of the largest drop; -1 where the score points nowhere.
        broken_N: ``[N]`` bool, a score on the grid is not finite: nothing is pointed at.
        levels: by name.
    """

    columns_N: Tensor
    broken_N: Tensor
    levels: dict[str, Found]


class _Level(NamedTuple):
    """What counts as a unit, ``[N, T]`` numbers, and which tokens as a hit, ``[N, T]`` bool."""

    units_NT: Tensor
    target_NT: Tensor


def localise(
    perturbed: Perturbed, pay_NT: Tensor | None, grid_NT: Tensor | None, logprobs_NT: Tensor, every: int
) -> dict[str, dict[str, Tensor]]:
    """Hit@1 of the largest drop of each trace, at three levels.

    The predicted position is the grid point after which the score fell most; it is a hit if it lies on a changed
    token, in the same interval of ``every`` tokens, or in the same reasoning step.

    Args:
        perturbed: N corrupted demonstrations with their spans.
        pay_NT: ``[N, T]`` what the critic would pay, not clipped; None where no reward was learnt.
        grid_NT: ``[N, T]`` bool, where it is read; None likewise.
        logprobs_NT: ``[N, T]`` log-probabilities under the policy, the baseline; read at every token.
        every: tokens of an interval, >= 1.

    Returns:
        For ``reward`` (where there is one), ``logprob_drop`` and ``chance`` (a random completion token): level to
        ``[N]`` values in [0, 1].

    Raises:
        DataError: a score on the grid is not finite.
    """
    if not len(perturbed.tokens):
        nothing = {level: torch.zeros(0, dtype=torch.float64) for level in LEVELS}
        return {method: dict(nothing) for method in METHODS if method != "reward" or pay_NT is not None}
    mask = perturbed.tokens.completion_mask
    dense = reward_grid(mask, every=1)
    predicted = {"logprob_drop": largest_drop(logprobs_NT, dense, mask)}
    if pay_NT is not None and grid_NT is not None:
        predicted = {"reward": largest_drop(pay_NT, grid_NT, mask), **predicted}
    levels = {name: level for name, level in _levels(perturbed, every).items() if name in LEVELS}
    out = {
        method: {name: hits(columns_N, level.target_NT).double() for name, level in levels.items()}
        for method, columns_N in predicted.items()
    }
    return {**out, "chance": {name: chance(level.target_NT, mask) for name, level in levels.items()}}


def locate(perturbed: Perturbed, readings: Mapping[str, Reading], every: int) -> dict[str, Located]:
    """:func:`localise` with every figure.

    The levels are ``token``, ``within_7`` (at most seven tokens off), ``interval`` of ``every`` tokens,
    ``within_1_interval`` and ``step``. The units of a level (tokens, intervals or steps) are ranked by the largest drop
    within each; a unit in which the score is not read is not ranked. In the reciprocal rank and the average precision
    units that tie count in expectation; Hit@1 is of one column, the earliest that ties.

    Args:
        perturbed: N corrupted demonstrations with their spans.
        readings: by name of the method.
        every: tokens of an interval, >= 1.

    Returns:
        By method, and ``chance``: the exact expectation of a random completion token (hit) and of a random order of the
        units (reciprocal rank, average precision), which points at no column. Nothing for no trace.
    """
    if not len(perturbed.tokens):
        return {}
    mask = perturbed.tokens.completion_mask
    levels = _levels(perturbed, every)
    out = {}
    for method, (scores_NT, grid_NT) in readings.items():
        broken_N = broken_rows(scores_NT, grid_NT & mask)
        whole_NT = scores_NT.masked_fill(broken_N.unsqueeze(1), 0.0)  # flat: points nowhere
        columns_N, drops_NT = largest_drop(whole_NT, grid_NT, mask), score_drops(whole_NT, grid_NT, mask)
        found = {name: _found(columns_N, drops_NT, level) for name, level in levels.items()}
        out[method] = Located(columns_N, broken_N, found)
    nowhere_N = torch.full_like(perturbed.sources, -1, device=mask.device)
    by_chance = {name: _by_chance(level, mask) for name, level in levels.items()}
    return {**out, "chance": Located(nowhere_N, torch.zeros_like(nowhere_N, dtype=torch.bool), by_chance)}


def _levels(perturbed: Perturbed, every: int) -> dict[str, _Level]:
    tokens, mask = perturbed.tokens, perturbed.tokens.completion_mask
    changed_NT = span_tokens(tokens.char_offsets, mask, perturbed.spans.to(mask.device))
    single = segment_ids(reward_grid(mask, every=1), mask)
    interval = segment_ids(reward_grid(mask, every=every), mask)
    step = segment_ids(reward_grid(mask, ends=tokens.step_ends), mask)
    return {
        "token": _Level(single, changed_NT),
        f"within_{WITHIN_TOKENS}": _Level(single, nearby(changed_NT, single, WITHIN_TOKENS)),
        "interval": _Level(interval, nearby(changed_NT, interval)),
        f"within_{WITHIN_INTERVALS}_interval": _Level(interval, nearby(changed_NT, interval, WITHIN_INTERVALS)),
        "step": _Level(step, nearby(changed_NT, step)),
    }


def _found(columns_N: Tensor, drops_NT: Tensor, level: _Level) -> Found:
    points_N = columns_N >= 0
    scores_NK = greatest_of_units(drops_NT, level.units_NT)
    relevant_NK = greatest_of_units(level.target_NT, level.units_NT)
    return Found(
        hits(columns_N, level.target_NT).double(),
        reciprocal_rank(scores_NK, relevant_NK).masked_fill(~points_N, 0.0),
        average_precision(scores_NK, relevant_NK).masked_fill(~points_N, 0.0),
    )


def _by_chance(level: _Level, mask_NT: Tensor) -> Found:
    alike_NK = greatest_of_units(torch.zeros(mask_NT.shape, device=mask_NT.device), level.units_NT)
    relevant_NK = greatest_of_units(level.target_NT, level.units_NT)
    return Found(
        chance(level.target_NT, mask_NT),
        reciprocal_rank(alike_NK, relevant_NK),
        average_precision(alike_NK, relevant_NK),
    )
