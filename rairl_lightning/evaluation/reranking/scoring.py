"""Sampled questions through a trained reward and its policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.evaluation.long_traces import LeftOut, LongTraces
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.evaluation.scoring import TraceScore, score_traces, traces_to
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.evaluation.windowed import windowed
from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.types import TokenBatch, TraceIds

WINDOW = 256  # traces read together, so that a batch holds traces of like length
DIGITS = 6  # beyond these a reward depends on its batch


def pooling_name(pooling: Pooling) -> str:
    """What a report calls it.

    >>> from rairl_lightning.components import Minimum
    >>> pooling_name(Minimum())
    'Minimum'
    """
    return repr(pooling).removesuffix("()")


def score_questions(
    reward: TrainedReward, questions: Iterable[SampledQuestion], poolings: Sequence[Pooling], long: LongTraces
) -> Iterator[ScoredQuestion]:
    """Score every trace once, and pool its rewards in each of the given ways.

    Args:
        reward: whose policy gives the log-probabilities.
        questions: read window by window, given back in their order.
        poolings: at least one.
        long: what is done with traces longer than a model's context, the reward's or the policy's.
    """
    window: list[SampledQuestion] = []
    for question in questions:
        window.append(question)
        if sum(len(one.completions) for one in window) >= WINDOW:
            yield from _scored(reward, window, poolings, long)
            window = []
    yield from _scored(reward, window, poolings, long)


def _scored(
    reward: TrainedReward, window: Sequence[SampledQuestion], poolings: Sequence[Pooling], long: LongTraces
) -> Iterator[ScoredQuestion]:
    traces = [trace for one in window for trace in traces_to(one)]
    scores = [score for part in score_traces(reward, traces, long, max(1, len(traces))) for score in part]
    logprobs = mean_logprobs(reward, [score.ids for score in scores], long)
    start = 0
    for one in window:
        rows = slice(start, start := start + len(one.completions))
        pooled = {pooling: tuple(_pooled(score, pooling) for score in scores[rows]) for pooling in poolings}
        yield ScoredQuestion(
            one,
            {pooling_name(pooling): values for pooling, values in pooled.items()},
            tuple(logprobs[rows]),
            tuple(len(score.ids.completion_ids) for score in scores[rows]),
            tuple(problem for score in scores[rows] for problem in score.problems),
            {pooling_name(pooling): _log_weights(pooling, values) for pooling, values in pooled.items()},
        )


def _pooled(score: TraceScore, pooling: Pooling) -> float:
    if score.reward is None or score.rewards is None:
        return math.nan
    rewards_1T, grid_1T = torch.tensor([score.rewards], dtype=torch.float64), torch.tensor([score.grid])
    return round(float(pooling(rewards_1T, grid_1T, torch.ones_like(grid_1T))), DIGITS)


def _log_weights(pooling: Pooling, pooled: Sequence[float]) -> tuple[float, ...]:
    return tuple(pooling.log_weight(torch.tensor(pooled, dtype=torch.float64)).tolist())


@torch.no_grad()
def mean_logprobs(reward: TrainedReward, traces: Sequence[TraceIds], long: LongTraces = LeftOut()) -> list[float]:
    """The policy's mean log-probability of a completion token.

    Args:
        reward: whose policy it is.
        traces: any number.
        long: what is done with traces longer than the policy's context.

    Returns:
        One value a trace; NaN for a trace without completion, or left out.
    """
    policy = reward.models.policy
    context = getattr(policy.causal_lm.config, "max_position_embeddings", None) or max(map(len, traces), default=0)
    found = [_in_windows(reward, one, long, context) if len(one) > context else math.nan for one in traces]
    short = [row for row, trace in enumerate(traces) if trace.completion_ids and len(trace) <= context]
    lengths = torch.tensor([len(traces[row]) for row in short], dtype=torch.int64)
    for rows in token_budget_split(lengths, reward.max_tokens):
        own = [short[row] for row in rows.tolist()]
        tokens = TokenBatch.from_traces([traces[row] for row in own], reward.codec.pad_id).to(policy.device)
        values_N: Tensor = masked_mean(policy.score(tokens, reward.max_tokens).logprobs, tokens.completion_mask, dim=1)
        for row, value in zip(own, values_N.tolist(), strict=True):
            found[row] = round(value, DIGITS)
    return found


def _in_windows(reward: TrainedReward, trace: TraceIds, long: LongTraces, context: int) -> float:
    windows = long.windows(len(trace.prompt_ids), len(trace.completion_ids), context) if trace.completion_ids else []
    if not windows:
        return math.nan
    policy = reward.models.policy

    def read(tokens: TokenBatch) -> Tensor:
        return policy.score(tokens, reward.max_tokens).logprobs

    logprobs_1T = windowed(read, trace, windows, reward.codec.pad_id, policy.device)
    return round(float(logprobs_1T[0, len(trace.prompt_ids) :].mean()), DIGITS)
