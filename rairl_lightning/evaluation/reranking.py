"""Choosing one of N traces: by the learned reward, and by everything it has to be compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from rairl_lightning.evaluation.sampling import Answered
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.ranking import (
    auroc,
    best_of_n,
    majority_vote,
    oracle,
    random_choice,
    weighted_vote,
)


def rerank(answered: Answered, rewards_QN: Tensor | None) -> dict[str, Tensor]:
    """Probability that each rule picks a right trace, for each question.

    Args:
        answered: Q questions with N traces.
        rewards_QN: ``[Q, N]`` pooled reward of each trace, high is good; None where no reward was learnt.

    Returns:
        ``[Q]`` float64 for ``reward`` (Best-of-N) and ``weighted`` (vote with weight ``σ(reward)``) where there is a
        reward, ``majority``, ``logprob`` (highest mean token log-probability), ``random`` (exact expectation) and
        ``oracle``.
    """
    correct_QN, classes_QN = answered.correct_QN, answered.classes_QN
    rollouts = answered.rollouts
    logprobs_QN = answered.per_question(masked_mean(rollouts.logprobs, rollouts.tokens.completion_mask, dim=1))
    learned = {}
    if rewards_QN is not None:
        learned = {
            "reward": best_of_n(rewards_QN, correct_QN),
            "weighted": weighted_vote(classes_QN, correct_QN, torch.sigmoid(rewards_QN.double())),
        }
    return {
        **learned,
        "majority": majority_vote(classes_QN, correct_QN),
        "logprob": best_of_n(logprobs_QN, correct_QN),
        "random": random_choice(correct_QN),
        "oracle": oracle(correct_QN),
    }


def reward_auroc(rewards_QN: Tensor, correct_QN: Tensor) -> float:
    """Probability that a right trace is paid more than a wrong one, over all questions; NaN without both.

    Args:
        rewards_QN: ``[Q, N]`` pooled reward of each trace.
        correct_QN: ``[Q, N]`` bool.
    """
    return float(auroc(rewards_QN.flatten(), correct_QN.flatten()))
