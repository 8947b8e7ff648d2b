"""From the values of its tokens to the score of a given step, by which the first wrong one is found."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from rairl_lightning.functional.step_scores import step_change, step_last, step_mean, step_minimum


class StepScore(ABC):
    """What a step is judged by."""

    @abstractmethod
    def __call__(self, values_NT: Tensor, spans_NK2: Tensor) -> Tensor:
        """Score each step.

        Args:
            values_NT: ``[N, T]``, such as the back-filled pay of the critic.
            spans_NK2: ``[N, K, 2]`` int64, first and last column of each step; -1 where there is no step.

        Returns:
            ``[N, K]``, low is bad; 0 where there is no step.
        """


@dataclass(frozen=True)
class LastToken(StepScore):
    """The value at the step's last token, when all of the step was read."""

    def __call__(self, values_NT: Tensor, spans_NK2: Tensor) -> Tensor:
        """``[N, K]`` scores."""
        return step_last(values_NT, spans_NK2)


@dataclass(frozen=True)
class StepMean(StepScore):
    """The mean over the step's tokens."""

    def __call__(self, values_NT: Tensor, spans_NK2: Tensor) -> Tensor:
        """``[N, K]`` scores."""
        return step_mean(values_NT, spans_NK2)


@dataclass(frozen=True)
class StepMinimum(StepScore):
    """The lowest value of the step's tokens: a step is as good as its worst token."""

    def __call__(self, values_NT: Tensor, spans_NK2: Tensor) -> Tensor:
        """``[N, K]`` scores."""
        return step_minimum(values_NT, spans_NK2)


@dataclass(frozen=True)
class StepDrop(StepScore):
    """How far another score fell since the step before (0 before the first), which the paper's localisation reads."""

    score: StepScore = field(default_factory=LastToken)
    """Whose change counts."""

    def __call__(self, values_NT: Tensor, spans_NK2: Tensor) -> Tensor:
        """``[N, K]`` scores: ``s_k - s_{k-1}``."""
        changes = step_change(self.score(values_NT, spans_NK2))
        return changes.masked_fill(spans_NK2[..., 1] < 0, 0.0)
