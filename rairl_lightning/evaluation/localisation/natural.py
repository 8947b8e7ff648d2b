"""The first wrong step of solutions that somebody marked (ProcessBench's protocol, arXiv 2412.06559).

A solution's first step that scores below a threshold is predicted, or none (-1). The questions are halved by a hash;
the threshold of each half is fitted on the other, so no solution helps to choose the threshold it is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.components.step_scores import LastToken, StepDrop, StepScore
from rairl_lightning.data.demonstrations.base import hold_out, normalised_question
from rairl_lightning.evaluation.localisation.solutions import StepTrace, span_columns
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.functional.first_error import broken_rows, first_below, fit_threshold, right_thresholds
from rairl_lightning.functional.grid import backfill
from rairl_lightning.functional.step_scores import step_change, step_mean
from rairl_lightning.types import TokenBatch

NO_PREDICTION = -2
"""Predicted where a score is not finite: neither a step nor that there is none, hence never right."""
CONSTANTS = ("never", "first", "last", "random")


@dataclass(frozen=True)
class ScoredSteps:
    """N solutions of at most K steps, scored by several methods.

    Attributes:
        labels_N: ``[N]`` int64, first wrong step, -1 for none.
        steps_NK: ``[N, K]`` bool, which steps there are.
        questions_N: ``[N]`` int64, equal where the question is.
        second_N: ``[N]`` bool, which half of the questions it belongs to.
        scores: by method, ``[N, K]`` float64; low is bad.
        subsets: N names to report by.
    """

    labels_N: Tensor
    steps_NK: Tensor
    questions_N: Tensor
    second_N: Tensor
    scores: dict[str, Tensor]
    subsets: tuple[str, ...]

    @classmethod
    def build(
        cls, traces: Sequence[StepTrace], scores: Sequence[Mapping[str, Tensor]], by: Sequence[str] = ()
    ) -> ScoredSteps:
        """Put batches together.

        Args:
            traces: N solutions of at least two questions.
            scores: of each, ``[K]`` by method.
            by: keys of ``meta`` that name the subset.

        Raises:
            DataError: there are fewer than two questions.
        """
        prompts = [normalised_question(one.solution.prompt) for one in traces]
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        _, second = hold_out(range(len(traces)), 0.5, prompts.__getitem__, salt="localise")
        return cls(
            labels_N=torch.tensor([one.solution.label for one in traces]),
            steps_NK=_padded([torch.ones(len(one.tokens), dtype=torch.bool) for one in traces]),
            questions_N=torch.tensor([numbers[prompt] for prompt in prompts]),
            second_N=torch.zeros(len(traces), dtype=torch.bool).index_fill(0, torch.tensor(second), True),
            scores={method: _padded([one[method].double() for one in scores]) for method in scores[0]},
            subsets=tuple("/".join(filter(None, map(one.solution.meta.get, by))) for one in traces),
        )

    def select(self, rows: Tensor) -> ScoredSteps:
        """The given solutions."""
        return ScoredSteps(
            self.labels_N[rows],
            self.steps_NK[rows],
            self.questions_N[rows],
            self.second_N[rows],
            {method: scores_NK[rows] for method, scores_NK in self.scores.items()},
            tuple(self.subsets[row] for row in rows.tolist()),
        )

    def broken(self, method: str) -> Tensor:
        """The solutions with a score that is not finite, ``[N]`` bool."""
        return broken_rows(self.scores[method], self.steps_NK)


def score_steps(reward: TrainedReward, traces: Sequence[StepTrace], score: StepScore) -> list[dict[str, Tensor]]:
    """Score the steps of solutions by the reward and by what it has to be compared with.

    ``reward`` is ``score`` of the critic's back-filled pay, which is not clipped; ``reward_drop`` how far its value at
    the steps' ends fell. Of the policy: ``logprob``, the mean over the step's tokens, ``logprob_drop``, its change
    since the step before, and ``entropy``, the mean with its sign turned.

    Args:
        reward: trained.
        traces: N solutions.
        score: of a step, from the values of its tokens.

    Returns:
        For each solution, ``[K]`` float64 by method on the CPU; low is bad.
    """
    pair = reward.models
    batch = TokenBatch.from_traces([one.trace for one in traces], reward.codec.pad_id).to(pair.policy.device)
    spans_NK2 = span_columns(traces, batch)
    read = reward.score(batch)
    filled_NT = backfill(read.pay_NT, read.grid_NT, batch.completion_mask)
    policy = pair.policy.score(batch, reward.max_tokens)
    logprobs_NK = step_mean(policy.logprobs, spans_NK2)
    scores = {
        "reward": score(filled_NT, spans_NK2),
        "reward_drop": StepDrop(LastToken())(filled_NT, spans_NK2),
        "logprob": logprobs_NK,
        "logprob_drop": step_change(logprobs_NK),
        "entropy": -step_mean(policy.entropy, spans_NK2),
    }
    on_cpu = {method: scores_NK.double().cpu() for method, scores_NK in scores.items()}
    return [{m: on_cpu[m][row, : len(one.tokens)] for m in on_cpu} for row, one in enumerate(traces)]


def cross_fitted(solutions: ScoredSteps, method: str) -> tuple[Tensor, tuple[float, float]]:
    """Predict every solution by the threshold that was fitted on the other half of the questions.

    Args:
        solutions: N of them.
        method: whose scores.

    Returns:
        ``[N]`` int64 first wrong step, -1 for none, :data:`NO_PREDICTION` where a score is not finite; and the
        thresholds used on the first and on the second half.
    """
    scores_NK, steps_NK, labels_N = solutions.scores[method], solutions.steps_NK, solutions.labels_N
    low_N, high_N = right_thresholds(scores_NK, steps_NK, labels_N)
    halves = (~solutions.second_N, solutions.second_N)
    on_first, on_second = (fit_threshold(low_N[half], high_N[half], labels_N[half] >= 0) for half in halves)
    thresholds_N = torch.where(solutions.second_N, on_first, on_second).double()
    predicted_N = first_below(scores_NK, steps_NK, thresholds_N)
    return predicted_N.masked_fill(solutions.broken(method), NO_PREDICTION), (on_second, on_first)


def constant_hits(solutions: ScoredSteps) -> dict[str, Tensor]:
    """How often fixed answers are right: no step, the first, the last, and any of these or another at random.

    Args:
        solutions: N of them.

    Returns:
        For each of :data:`CONSTANTS`, ``[N]`` float64; ``random`` is the exact expectation of a uniform choice among
        the K steps and "none".
    """
    labels_N, counts_N = solutions.labels_N, solutions.steps_NK.sum(dim=1)
    hits = (labels_N == -1, labels_N == 0, labels_N == counts_N - 1, 1 / (counts_N + 1))
    return {name: hit.double() for name, hit in zip(CONSTANTS, hits, strict=True)}


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
