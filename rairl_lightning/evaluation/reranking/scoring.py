"""Sampled questions through a trained reward and its policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.chat import ANSWER_CLOSE
from rairl_lightning.types import TokenBatch, TraceIds

WINDOW = 512  # traces read together, so that a batch holds traces of like length


def pooling_name(pooling: Pooling) -> str:
    """What a report calls it.

    >>> from rairl_lightning.components import Minimum
    >>> pooling_name(Minimum())
    'Minimum'
    """
    return repr(pooling).removesuffix("()")


def score_questions(
    reward: TrainedReward, questions: Iterable[SampledQuestion], poolings: Sequence[Pooling]
) -> Iterator[ScoredQuestion]:
    """Score every trace once, and pool its rewards in each of the given ways.

    A trace that is longer than the models' context has neither reward nor log-probability.

    Args:
        reward: whose policy gives the log-probabilities.
        questions: read window by window, given back in their order.
        poolings: at least one.
    """
    named = {pooling_name(pooling): pooling for pooling in poolings}
    window: list[SampledQuestion] = []
    for question in questions:
        window.append(question)
        if sum(len(one.completions) for one in window) >= WINDOW:
            yield from _scored(reward, window, named)
            window = []
    yield from _scored(reward, window, named)


def trace_of(codec: TraceCodec, prompt: str, completion: str) -> TraceIds:
    """A completion as ids; one that does not end with its answer was cut, and has no end of turn."""
    ids = codec.encode_completion(completion)
    cut = not completion.rstrip().endswith(ANSWER_CLOSE)
    return codec.trace(codec.encode_prompt(prompt), ids[:-1] if cut and len(ids) > 1 else ids)[0]


def _scored(
    reward: TrainedReward, window: Sequence[SampledQuestion], poolings: Mapping[str, Pooling]
) -> Iterator[ScoredQuestion]:
    traces = [
        trace_of(reward.codec, one.question.prompt, completion) for one in window for completion in one.completions
    ]
    longest = reward.context or math.inf
    short = [row for row, trace in enumerate(traces) if len(trace) <= longest]
    tokens = TokenBatch.from_traces([traces[row] for row in short], reward.codec.pad_id)
    columns = {name: [math.nan] * len(traces) for name in (*poolings, "logprob")}
    for name, values_N in _columns(reward, tokens.to(reward.models.policy.device), poolings).items():
        for row, value in zip(short, values_N.tolist(), strict=True):
            columns[name][row] = value
    lengths = [len(trace.completion_ids) for trace in traces]
    start = 0
    for one in window:
        rows = slice(start, start := start + len(one.completions))
        yield ScoredQuestion(
            one,
            {name: tuple(columns[name][rows]) for name in poolings},
            tuple(columns["logprob"][rows]),
            tuple(lengths[rows]),
            sum(len(trace) > longest for trace in traces[rows]),
        )


@torch.no_grad()
def _columns(reward: TrainedReward, tokens: TokenBatch, poolings: Mapping[str, Pooling]) -> dict[str, torch.Tensor]:
    if not len(tokens):
        return {}
    scores = reward.score(tokens)
    pooled = {
        name: pooling(scores.rewards_NT, scores.grid_NT, tokens.completion_mask) for name, pooling in poolings.items()
    }
    logprobs_NT = reward.models.policy.score(tokens, reward.max_tokens).logprobs
    return {**pooled, "logprob": masked_mean(logprobs_NT, tokens.completion_mask, dim=1)}
