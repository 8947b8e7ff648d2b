"""Expert traces against their corruptions: where each method points, and whether it prefers the clean one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.data.demonstrations.base import normalised_question
from rairl_lightning.evaluation.localisation.perturbed import Found, Located, Reading, locate
from rairl_lightning.evaluation.resamples import Resamples, bounds
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.types import Demonstration, Perturbed, TokenBatch

BATCH = 64
"""Traces that are scored and written at a time; memory is bounded by the reward's ``max_tokens``."""
BASELINES = ("logprob_drop", "entropy_spike")

Progress = Callable[[Iterable[Tensor]], Iterable[Tensor]]


@dataclass(frozen=True)
class LocatedPairs:
    """N corrupted traces with where they were said to go wrong.

    Attributes:
        perturbed: the traces.
        questions_N: ``[N]`` int64, equal where the question is.
        located: by method; columns count from the first completion token.
        clean: by ``reward`` (pooled) and ``logprob`` (mean), ``[N]`` of each trace's clean source.
        corrupted: likewise, of the trace itself.
    """

    perturbed: Perturbed
    questions_N: Tensor
    located: dict[str, Located]
    clean: dict[str, Tensor]
    corrupted: dict[str, Tensor]


def locate_pairs(
    reward: TrainedReward,
    demonstrations: Sequence[Demonstration],
    perturbed: Perturbed,
    every: int,
    progress: Progress = iter,
) -> LocatedPairs:
    """Score corrupted traces and their clean sources.

    Methods are ``reward`` (drop of the critic's pay, not clipped), ``logprob_drop`` and ``entropy_spike`` (of the run's
    policy, read at every token: where a token is less expected, or the next one less certain, than the one before).

    Args:
        reward: trained.
        demonstrations: B clean ones.
        perturbed: N corruptions of them.
        every: tokens of an interval, >= 1.
        progress: shows how far the batches are.
    """
    sources = perturbed.sources.unique()
    cleans = [reward.codec.encode_demonstration(demonstrations[source]) for source in sources.tolist()]
    clean_tokens = TokenBatch.from_traces(cleans, reward.codec.pad_id)
    clean = _joined([_read(reward, clean_tokens.select(rows))[0] for rows in progress(_batches(len(cleans)))])
    place_N = torch.searchsorted(sources, perturbed.sources)
    parts, corrupted = [], []
    for rows in progress(_batches(len(perturbed.sources))):
        part = rows_of(perturbed, rows).to(reward.models.policy.device)
        scores, readings = _read(reward, part.tokens)
        corrupted.append(scores)
        parts.append(from_first_token(locate(part, readings, every), part.tokens))
    numbers = _numbered(demonstrations)
    return LocatedPairs(
        perturbed,
        torch.tensor([numbers[source] for source in perturbed.sources.tolist()]),
        {method: _cat([part[method] for part in parts]) for method in parts[0]},
        {name: values[place_N] for name, values in clean.items()},
        _joined(corrupted),
    )


def pair_figures(pairs: LocatedPairs, rows_N: Tensor, seed: int) -> dict[str, Any]:
    """Figures of the given traces as ``[value, low, high]``, 95 % by bootstrap over questions.

    Args:
        pairs: N corrupted traces.
        rows_N: ``[N]`` bool, which of them count.
        seed: of the resamples, which all figures share.

    Returns:
        Counts; ``hit@1``, ``mrr`` and ``map`` by method and level; ``gain``, the reward's Hit@1 less each baseline's;
        ``clean_preferred``, how often the clean trace of a pair has the higher score (ties half, not finite a miss).
    """
    resamples = Resamples.draw(pairs.questions_N[rows_N], seed)
    columns: dict[tuple[str, ...], Tensor] = {}
    for method, located in pairs.located.items():
        for level, found in located.levels.items():
            for name, values_N in zip(("hit@1", "mrr", "map"), found, strict=True):
                columns[name, method, level] = values_N
    for baseline in BASELINES:
        for level in pairs.located["reward"].levels:
            columns["gain", baseline, level] = columns["hit@1", "reward", level] - columns["hit@1", baseline, level]
    for name in pairs.clean:
        columns["clean_preferred", name] = _preferred(pairs.clean[name], pairs.corrupted[name])
    means_C, draws_RC = resamples.means(torch.stack([values_N[rows_N] for values_N in columns.values()], dim=1))
    figures: dict[str, Any] = {"traces": int(rows_N.sum()), "questions": resamples.questions}
    for column, path in enumerate(columns):
        place = figures
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = bounds(means_C[column], draws_RC[:, column])
    return figures


def rows_of(perturbed: Perturbed, rows: Tensor) -> Perturbed:
    """The given corrupted traces."""
    return replace(
        perturbed,
        tokens=perturbed.tokens.select(rows),
        spans=perturbed.spans[rows],
        sources=perturbed.sources[rows],
        kinds=tuple(perturbed.kinds[row] for row in rows.tolist()),
    )


def _read(reward: TrainedReward, tokens: TokenBatch) -> tuple[dict[str, Tensor], dict[str, Reading]]:
    """One number a trace, and what drops are looked for in."""
    policy = reward.models.policy
    tokens = tokens.to(policy.device)
    read, statistics, mask = reward.score(tokens), policy.score(tokens, reward.max_tokens), tokens.completion_mask
    pooled = {"reward": read.traces_N, "logprob": masked_mean(statistics.logprobs, mask, dim=1)}
    readings = {
        "reward": Reading(read.pay_NT, read.grid_NT),
        "logprob_drop": Reading(statistics.logprobs, mask),
        "entropy_spike": Reading(-statistics.entropy, mask),
    }
    return {name: values.double().cpu() for name, values in pooled.items()}, readings


def from_first_token(located: dict[str, Located], tokens: TokenBatch) -> dict[str, Located]:
    """On the CPU, with columns that do not depend on the batch."""
    first_N = tokens.completion_mask.long().argmax(dim=1)
    out = {}
    for method, one in located.items():
        columns_N = torch.where(one.columns_N < 0, -1, one.columns_N - first_N)
        levels = {level: Found(*(values.cpu() for values in found)) for level, found in one.levels.items()}
        out[method] = Located(columns_N.cpu(), one.broken_N.cpu(), levels)
    return out


def _cat(parts: Sequence[Located]) -> Located:
    levels = {
        level: Found(*(torch.cat(values) for values in zip(*(part.levels[level] for part in parts), strict=True)))
        for level in parts[0].levels
    }
    return Located(torch.cat([part.columns_N for part in parts]), torch.cat([part.broken_N for part in parts]), levels)


def _batches(count: int) -> tuple[Tensor, ...]:
    return torch.arange(count).split(BATCH)


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _preferred(clean_N: Tensor, corrupted_N: Tensor) -> Tensor:
    wins = ((clean_N - corrupted_N).sign() + 1) / 2
    return wins.masked_fill(~(clean_N.isfinite() & corrupted_N.isfinite()), 0.0)


def _numbered(demonstrations: Sequence[Demonstration]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(normalised_question(one.prompt), len(numbers)) for one in demonstrations]
