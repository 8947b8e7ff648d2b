"""Graded and scored traces of many questions, in an order that no file decides."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rairl_lightning.data.demonstrations.base import normalised_question
from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.evaluation.reranking.rules import Groups, chosen_right
from rairl_lightning.evaluation.scoring import UNANSWERED
from rairl_lightning.text.graders import Grade


@dataclass(frozen=True)
class ScoredQuestion:
    """A question, its N traces, and what the models say of them.

    Attributes:
        sampled: as it was read.
        rewards: N pooled rewards by the name of their pooling; NaN where there is none.
        logprobs: N mean log-probabilities of a completion token; NaN where there is none.
        lengths: N completion tokens.
        problems: of all its traces, of :data:`~rairl_lightning.evaluation.scoring.PROBLEMS`.
        log_weights: N logarithms of the weights of its votes by the name of their pooling; of a pooling that is not
            here ``log σ(reward)``.
    """

    sampled: SampledQuestion
    rewards: dict[str, tuple[float, ...]]
    logprobs: tuple[float, ...]
    lengths: tuple[int, ...]
    problems: tuple[str, ...] = ()
    log_weights: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells questions apart."""
        return normalised_question(self.sampled.question.prompt)

    def votes(self, pooling: str) -> Tensor:
        """N logarithms of weights, float64; -inf where there is no reward."""
        if pooling in self.log_weights:
            return _nan_last(torch.tensor(self.log_weights[pooling], dtype=torch.float64))
        return _nan_last(logsigmoid(torch.tensor(self.rewards[pooling], dtype=torch.float64)))

    @property
    def category(self) -> str:
        """To report by; empty where the data knows none."""
        return self.sampled.question.meta.get("category", "")


@dataclass(frozen=True)
class TracePool:
    """M traces of Q questions whose grade is known; those of a question adjacent.

    Attributes:
        categories: Q names.
        units_Q: ``[Q]`` int64, 0..U-1, equal where the text of the question is, case and white space aside: what the
            bootstrap resamples.
        questions_M: ``[M]`` int64, 0..Q-1, ascending.
        correct_M: ``[M]`` bool; a trace without an answer is wrong.
        classes_M: ``[M]`` int64, equal where the answers of a question agree; -1 without an answer.
        rewards_M: ``[M]`` float64; -inf where there is none, so that such a trace ranks last.
        log_weights_M: ``[M]`` float64, of the vote that the reward weighs, likewise.
        logprobs_M: ``[M]`` float64, likewise.
        lengths_M: ``[M]`` int64 completion tokens.
    """

    categories: tuple[str, ...]
    units_Q: Tensor
    questions_M: Tensor
    correct_M: Tensor
    classes_M: Tensor
    rewards_M: Tensor
    log_weights_M: Tensor
    logprobs_M: Tensor
    lengths_M: Tensor

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def sizes_Q(self) -> Tensor:
        """Traces of each question, ``[Q]``."""
        return torch.bincount(self.questions_M, minlength=len(self))

    @property
    def rewarded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the traces with a finite reward, ``[M']`` each: reward, whether it is right, and question.

        What asks how good the rewards are reads these: a trace without any is wrong more often than not, so that
        ranking it last would count as a merit of the reward.
        """
        kept_M = self.rewards_M.isfinite()
        return self.rewards_M[kept_M], self.correct_M[kept_M], self.questions_M[kept_M]

    def chosen_right(self, n: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Every rule at n, over the questions with at least n traces.

        Returns:
            ``[Q']`` float64 by rule, and the ``[Q']`` questions they belong to, ascending.
        """
        sizes_Q = self.sizes_Q
        values: dict[str, Tensor] = {}
        for size in sorted(set(sizes_Q[sizes_Q >= n].tolist())):
            rows = sizes_Q == size
            for name, part in chosen_right(self._groups(rows, size), n, seed).items():
                values.setdefault(name, torch.zeros(len(self), dtype=torch.float64))[rows] = part
        enough = (sizes_Q >= n).nonzero()[:, 0]
        return {name: value[enough] for name, value in values.items()}, enough

    def _groups(self, rows_Q: Tensor, size: int) -> Groups:
        taken = rows_Q[self.questions_M]
        rewards = self.rewards_M, self.log_weights_M
        columns = (self.correct_M, self.classes_M, self.logprobs_M, self.lengths_M, *rewards)
        return Groups(*(column[taken].reshape(-1, size) for column in columns))


def pool_of(scored: Sequence[ScoredQuestion], pooling: str) -> TracePool:
    """Put the traces with a known grade into tensors.

    Questions and traces are ordered by a hash of their text, so that neither the subsets nor the resamples of a figure
    depend on the order of the file. A trace whose grade is unknown is left out: unknown is not wrong, and its question
    has one trace fewer. A question without a graded trace is left out.

    Args:
        scored: in any order.
        pooling: which of the rewards to take.
    """
    questions = sorted(scored, key=lambda one: _hash(one.key, one.sampled.question.id))
    kept = [(one, rows) for one in questions if (rows := _graded(one.sampled))]
    owners = [index for index, (_, rows) in enumerate(kept) for _ in rows]

    def column(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        pairs = zip(values, kept, strict=True)
        return torch.tensor([one[row] for one, (_, rows) in pairs for row in rows], dtype=dtype)

    units: dict[str, int] = {}
    grades = [[grade is Grade.RIGHT for grade in one.sampled.grades] for one, _ in kept]
    return TracePool(
        tuple(one.category for one, _ in kept),
        torch.tensor([units.setdefault(one.key, len(units)) for one, _ in kept], dtype=torch.int64),
        torch.tensor(owners, dtype=torch.int64),
        column(grades, torch.bool),
        column([one.sampled.classes for one, _ in kept], torch.int64),
        _nan_last(column([one.rewards[pooling] for one, _ in kept], torch.float64)),
        column([one.votes(pooling).tolist() for one, _ in kept], torch.float64),
        _nan_last(column([one.logprobs for one, _ in kept], torch.float64)),
        column([one.lengths for one, _ in kept], torch.int64),
    )


def oddities(scored: Sequence[ScoredQuestion], pooling: str) -> dict[str, int]:
    """How many questions and traces there are, and how many of them are out of the ordinary."""
    grades = Counter(grade for one in scored for grade in one.sampled.grades)
    right = [[grade is Grade.RIGHT for grade in one.sampled.grades if grade is not Grade.UNKNOWN] for one in scored]
    problems = Counter(problem for one in scored for problem in one.problems)
    return {
        "questions": len(scored),
        "traces": sum(len(one.sampled.completions) for one in scored),
        **{f"traces_{grade.value}": grades[grade] for grade in Grade},
        **{f"traces_{problem}": problems[problem] for problem in sorted(problems.keys() - {UNANSWERED})},
        "traces_without_reward": sum(math.isnan(value) for one in scored for value in one.rewards[pooling]),
        "traces_without_logprob": sum(math.isnan(value) for one in scored for value in one.logprobs),
        "questions_without_grade": sum(not group for group in right),
        "questions_with_one_trace": sum(len(group) == 1 for group in right),
        "questions_all_right": sum(bool(group) and all(group) for group in right),
        "questions_all_wrong": sum(bool(group) and not any(group) for group in right),
        "questions_all_tied": sum(map(_all_tied, (one.rewards[pooling] for one in scored))),
    }


def _graded(sampled: SampledQuestion) -> list[int]:
    rows = [row for row, grade in enumerate(sampled.grades) if grade is not Grade.UNKNOWN]
    return sorted(rows, key=lambda row: _hash(sampled.question.prompt, sampled.completions[row]))


def _all_tied(rewards: Sequence[float]) -> bool:
    """Whether there is nothing to choose by; traces without reward tie too."""
    return len(rewards) > 1 and len({-math.inf if math.isnan(one) else one for one in rewards}) == 1


def _hash(*texts: str) -> bytes:
    return hashlib.sha256("\x00".join(texts).encode("utf-8", "surrogatepass")).digest()


def _nan_last(values: Tensor) -> Tensor:
    return values.masked_fill(values.isnan(), -torch.inf)
