"""The rules, each as the probability that its choice among n traces is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from rairl_lightning.components.pooling import Pooling, TokenWeighted
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.ranking import auroc, best_of_n, pass_at_k, random_choice
from rairl_lightning.functional.voting import majority_vote, relative_weights, subsets, weighted_vote

if TYPE_CHECKING:
    from rairl_lightning.evaluation.sampling import Answered

_ELEMENTS = 2**23  # of the largest tensor of a rule


@dataclass(frozen=True)
class Groups:
    """Q questions with G graded traces each.

    Attributes:
        correct_QG: ``[Q, G]`` bool.
        classes_QG: ``[Q, G]`` int64, equal where the answers of a question agree; -1 without an answer.
        logprobs_QG: ``[Q, G]`` the policy's mean log-probability of a completion token.
        lengths_QG: ``[Q, G]`` completion tokens.
        rewards_QG: ``[Q, G]`` pooled reward, high is good; None where no reward was learnt.
        log_weights_QG: ``[Q, G]`` of the vote that the reward weighs, from ``Pooling.log_weight``; None likewise.
    """

    correct_QG: Tensor
    classes_QG: Tensor
    logprobs_QG: Tensor
    lengths_QG: Tensor
    rewards_QG: Tensor | None
    log_weights_QG: Tensor | None

    @classmethod
    def of(cls, answered: Answered, rewards_QG: Tensor | None, pooling: Pooling) -> Self:
        """Read sampled traces."""
        tokens = answered.rollouts.tokens
        logprobs_N = masked_mean(answered.rollouts.logprobs, tokens.completion_mask, dim=1)
        lengths_QG = answered.per_question(tokens.completion_lengths_N)
        log_weights_QG = None if rewards_QG is None else pooling.log_weight(rewards_QG.double())
        rewards = rewards_QG, log_weights_QG
        return cls(answered.correct_QN, answered.classes_QN, answered.per_question(logprobs_N), lengths_QG, *rewards)

    @property
    def size(self) -> int:
        """G."""
        return self.correct_QG.shape[1]

    def split(self, questions: int) -> list[Self]:
        """The same in parts of at most so many questions."""
        return [self._rows(slice(at, at + questions)) for at in range(0, len(self.correct_QG), questions)]

    def _rows(self, rows: slice) -> Self:
        learned = (None if column is None else column[rows] for column in (self.rewards_QG, self.log_weights_QG))
        graded = self.correct_QG[rows], self.classes_QG[rows]
        return type(self)(*graded, self.logprobs_QG[rows], self.lengths_QG[rows], *learned)


def chosen_right(groups: Groups, n: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Probability that each rule picks a right trace when n of the G are there to choose from, for each question.

    The expectation over subsets is exact but for the votes, which are averaged over the same
    :func:`~rairl_lightning.functional.voting.subsets`.

    Args:
        groups: Q questions.
        n: 1..G; None means G.
        seed: of the subsets that are drawn where there are too many.

    Returns:
        ``[Q]`` float64 for ``reward`` (Best-of-n) and ``weighted`` (vote with D's probability as weight) where there
        is a reward, ``majority``, ``logprob`` (highest mean token log-probability), ``shortest``, ``random``, and
        ``oracle``, which is pass@n.

    Raises:
        DataError: n is out of range, or a score is NaN.
    """
    n = groups.size if n is None else n
    members_SG = subsets(groups.size, n, seed)
    questions = max(1, _ELEMENTS // (groups.size * max(groups.size, len(members_SG))))
    parts = [_chosen_right(part, n, members_SG) for part in groups.split(questions)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _chosen_right(groups: Groups, n: int, members_SG: Tensor) -> dict[str, Tensor]:
    correct, classes = groups.correct_QG, groups.classes_QG
    rewards, log_weights = groups.rewards_QG, groups.log_weights_QG
    learned = {}
    if rewards is not None and log_weights is not None:
        learned = {
            "reward": best_of_n(rewards, correct, n),
            "weighted": weighted_vote(classes, correct, relative_weights(log_weights), members_SG),
        }
    return {
        **learned,
        "majority": majority_vote(classes, correct, members_SG),
        "logprob": best_of_n(groups.logprobs_QG, correct, n),
        "shortest": best_of_n(-groups.lengths_QG, correct, n),
        "random": random_choice(correct),
        "oracle": pass_at_k(groups.size, correct.sum(dim=1), n),
    }


def rerank(
    answered: Answered, rewards_QN: Tensor | None, n: int | None = None, pooling: Pooling = TokenWeighted()
) -> dict[str, Tensor]:
    """:func:`chosen_right` of sampled traces.

    Args:
        answered: Q questions with N traces.
        rewards_QN: ``[Q, N]`` pooled reward of each trace, high is good; None where no reward was learnt.
        n: how many of the N to choose from; None means all.
        pooling: that the rewards came from; it says how they weigh in a vote.
    """
    return chosen_right(Groups.of(answered, rewards_QN, pooling), n)


def reward_auroc(rewards_QN: Tensor, correct_QN: Tensor) -> float:
    """Probability that a right trace is paid more than a wrong one, over all questions; NaN without both.

    Args:
        rewards_QN: ``[Q, N]`` pooled reward of each trace.
        correct_QN: ``[Q, N]`` bool.
    """
    return float(auroc(rewards_QN.flatten(), correct_QN.flatten()))
