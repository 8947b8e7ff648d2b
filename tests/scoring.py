"""Traces in memory and their scores, for the tests of scoring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rairl_lightning.data.traces import SampledQuestion, TraceSource
from rairl_lightning.evaluation.scoring import Trace, TraceScore, score_traces
from rairl_lightning.evaluation.trained import TrainedReward


class InMemory(TraceSource):
    def __init__(self, *questions: SampledQuestion) -> None:
        object.__setattr__(self, "listed", questions)

    def questions(self) -> Any:
        return iter(self.listed)  # type: ignore[attr-defined]


def scored(reward: TrainedReward, traces: Iterable[Trace], **settings: Any) -> list[TraceScore]:
    return [one for part in score_traces(reward, traces, **settings) for one in part]


def apart(first: list[TraceScore], second: list[TraceScore]) -> float:
    """Largest difference of any token's or trace's reward."""
    assert [one.trace for one in first] == [one.trace for one in second]
    pairs = [(a.reward, b.reward) for a, b in zip(first, second, strict=True)]
    pairs += [pair for a, b in zip(first, second, strict=True) for pair in zip(a.rewards, b.rewards, strict=True)]
    return max(abs(a - b) for a, b in pairs)
