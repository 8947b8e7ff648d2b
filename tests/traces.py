"""Traces in memory, and a reward that was never trained, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import torch

from rairl_lightning.components import ClippedLogit, Dense, Granularity, RewardReader, SingleHead, TokenWeighted
from rairl_lightning.data.traces import SampledQuestion, TraceSource
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.text.answers import answers_agree, extract_answer
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.graders import Grade
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class Listed(TraceSource):
    """Lines of a text file: a gate's number, then its completions, tab-separated; written with \\n for line breaks."""

    path: str

    def questions(self) -> Iterator[SampledQuestion]:
        for line in Path(self.path).read_text().splitlines():
            gate, *completions = line.split("\t")
            yield sampled(int(gate), *(text.encode().decode("unicode_escape") for text in completions))


def sampled(gate: int, *completions: str, **record: Any) -> SampledQuestion:
    question = gates.solution(gate)
    answers = tuple(map(extract_answer, completions))
    return SampledQuestion(
        Demonstration(question.id, question.prompt, "", question.answer),
        completions,
        answers,
        tuple(grade(answer) for answer in answers),
        tuple(range(len(completions))),
        tuple({"id": question.id, "completion": text, **record} for text in completions),
    )


def grade(answer: str | None) -> Grade:
    if answer is None:
        return Grade.UNANSWERED
    return Grade.RIGHT if answers_agree(answer, gates.LEFT) else Grade.WRONG


def completion(lines: int, way: str = "left") -> str:
    return render_completion("\n".join([*(["1 + 2 = 3"] * lines), f"go {way}"]), way)


def a_reward(base: Path, granularity: Granularity = Dense(), **settings: Any) -> TrainedReward:
    """Weights moved off their silent start."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        pair = gates.shared(base).build()
        for parameter in pair.trainable_parameters("discriminator"):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    reader = RewardReader(SingleHead(), granularity, ClippedLogit(), TokenWeighted())
    return TrainedReward(pair.eval().requires_grad_(False), reader, **settings)
