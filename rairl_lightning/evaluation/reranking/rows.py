"""The reranked traces themselves, one JSON object each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rairl_lightning.evaluation.calibration import Fitted
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.functional.voting import relative_weights, winning_votes


def reranked_rows(one: ScoredQuestion, pooling: str, fitted: Fitted, use: str) -> Iterator[dict[str, Any]]:
    """Each trace as it was read, with what the reward makes of it.

    Added are ``completion`` (as it was scored), ``reward``, ``rank`` in its question (1 is best; equal rewards share a
    rank, traces without a reward come last), ``chosen_by`` (the rules that choose this trace, or its answer, among all
    of its question's; whoever ties is named), ``probability`` of being right, ``extracted_answer``, ``grade`` and
    ``split`` (``reported`` or ``selection``); where the input has another value of such a name, it moves under
    ``input``.

    Args:
        one: a question.
        pooling: which of the rewards.
        fitted: the calibration.
        use: what the question was used for.
    """
    rewards = one.rewards[pooling]
    chosen = _choices(one, pooling)
    for row, completion in enumerate(one.sampled.completions):
        reward = rewards[row]
        known = math.isfinite(reward)
        question = one.sampled.question
        given = one.sampled.records[row] if one.sampled.records else {"id": question.id, "prompt": question.prompt}
        ours = {
            "completion": completion,
            "extracted_answer": one.sampled.answers[row],
            "grade": one.sampled.grades[row].value,
            "reward": reward if known else None,
            "rank": _rank(rewards, row),
            "probability": round(float(fitted.probability(torch.tensor([reward], dtype=torch.float64))), 6)
            if known
            else None,
            "chosen_by": [rule for rule, rows in chosen.items() if row in rows],
            "split": use,
        }
        hidden = {key: value for key, value in given.items() if key in ours and value != ours[key]}
        yield {**given, **ours, **({"input": hidden} if hidden else {})}


def _rank(rewards: Sequence[float], row: int) -> int:
    if math.isnan(rewards[row]):
        return 1 + sum(not math.isnan(other) for other in rewards)
    return 1 + sum(other > rewards[row] for other in rewards)


def _choices(one: ScoredQuestion, pooling: str) -> dict[str, set[int]]:
    classes = torch.tensor([one.sampled.classes])
    weights = relative_weights(one.votes(pooling).unsqueeze(0))
    return {
        "reward": _highest(one.rewards[pooling]),
        "weighted": _voters(classes, weights),
        "majority": _voters(classes, torch.ones_like(weights)),
        "logprob": _highest(one.logprobs),
        "shortest": _highest([-length for length in one.lengths]),
    }


def _voters(classes: torch.Tensor, weights: torch.Tensor) -> set[int]:
    return set(winning_votes(classes, weights)[0, 0].nonzero()[:, 0].tolist())


def _highest(scores: Sequence[float]) -> set[int]:
    known = [score for score in scores if not math.isnan(score)]
    return {row for row, score in enumerate(scores) if known and score == max(known)}
