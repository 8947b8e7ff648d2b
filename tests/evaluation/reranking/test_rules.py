"""Every rule on one hand-worked question."""

import math

import pytest
import torch

from rairl_lightning.components import Product
from rairl_lightning.evaluation.reranking import rerank, reward_auroc
from rairl_lightning.evaluation.sampling import Answered
from rairl_lightning.types import Rollouts, TokenBatch, TraceIds

CORRECT = torch.tensor([[True, False, False, True], [False, False, False, False]])
CLASSES = torch.tensor([[0, 1, 1, 0], [0, 0, 1, -1]])


def answered(logprobs_N: list[list[float]]) -> Answered:
    """Traces whose tokens have these log-probabilities."""
    traces = [TraceIds([1], [2] * len(one), [False] * len(one), [(0, 0)] * len(one)) for one in logprobs_N]
    tokens = TokenBatch.from_traces(traces, 0)
    logprobs = torch.zeros(tokens.input_ids.shape)
    logprobs[tokens.completion_mask] = torch.tensor([value for one in logprobs_N for value in one])
    rollouts = Rollouts(tokens, logprobs, torch.ones(8, dtype=torch.bool), ("",) * 8, 4)
    return Answered(rollouts, CORRECT, CLASSES)


# The mean token, not the sum, is what counts: a short trace of -1 loses against a long one of -0.5 a token.
LOGPROBS = [[-1.0], [-0.5, -0.5, -0.5], [-3.0], [-0.4, -0.8], [-1.0], [-2.0], [-3.0], [-4.0]]


def test_each_rule_by_hand() -> None:
    rewards = torch.tensor([[2.0, 1.0, 1.5, -1.0], [0.0, 1.0, 2.0, 3.0]])
    rates = {name: values.tolist() for name, values in rerank(answered(LOGPROBS), rewards).items()}
    assert rates["reward"] == [1, 0]
    assert rates["majority"] == [pytest.approx(0.5), 0], "two votes each: half the time right"
    assert rates["weighted"][0] == 0, "σ(2) + σ(-1) = 1.15 < σ(1) + σ(1.5) = 1.55"
    assert rates["logprob"] == [0, 0], "trace 1, at -0.5 a token"
    assert rates["random"] == [0.5, 0]
    assert rates["oracle"] == [1, 0]
    assert rates["shortest"] == [0.5, 0], "lengths 1, 3, 1, 2: the right trace 0 and the wrong trace 2 tie"
    assert set(rates) == {"reward", "weighted", "majority", "logprob", "shortest", "random", "oracle"}


def test_ties_are_shared() -> None:
    rates = rerank(answered(LOGPROBS), torch.zeros(2, 4))
    assert rates["reward"].tolist() == [0.5, 0], "a constant reward is a random choice"


def test_a_product_votes_with_its_probability() -> None:
    """Weights e^-800, and twice e^-800.5 together more; σ would make them all zero, and the vote a tie."""
    products = torch.tensor([[-800.0, -800.5, -800.5, -805.0], [-1.0, -2.0, -3.0, -4.0]])
    rates = rerank(answered(LOGPROBS), products, pooling=Product())
    assert rates["weighted"].tolist() == [0, 0], "1 + e^-5 < 2 e^-0.5"
    assert rerank(answered(LOGPROBS), products - 50, pooling=Product())["weighted"].tolist() == [0, 0]
    steeper = torch.tensor([[-800.0, -801.0, -801.0, -805.0], [-1.0, -2.0, -3.0, -4.0]])
    assert rerank(answered(LOGPROBS), steeper, pooling=Product())["weighted"].tolist() == [1, 0], "1 > 2 e^-1"
    near = torch.tensor([[0.0, -0.8, -0.8, -9.0], [0.0, 0.0, 0.0, 0.0]])
    assert rerank(answered(LOGPROBS), near, pooling=Product())["weighted"][0] == 1, "1 > 2 e^-0.8 = 0.90"
    assert rerank(answered(LOGPROBS), near)["weighted"][0] == 0, "control: σ(0) = 0.5 < 2 σ(-0.8) = 0.62"


def test_auroc_counts_pairs_over_all_questions() -> None:
    rewards = torch.tensor([[2.0, 1.0, 1.5, -1.0], [0.0, 1.0, 2.0, 3.0]])
    # right: 2, -1; wrong: 1, 1.5, 0, 1, 2, 3. Pairs won: 2 beats 1, 1.5, 0, 1 and ties with 2; -1 beats none.
    assert reward_auroc(rewards, CORRECT) == pytest.approx(4.5 / 12)
    assert math.isnan(reward_auroc(rewards, torch.ones_like(CORRECT)))
    assert math.isnan(reward_auroc(rewards, torch.zeros_like(CORRECT)))


def test_values_are_grouped_by_question() -> None:
    grouped = answered(LOGPROBS).per_question(torch.arange(8))
    assert grouped.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
