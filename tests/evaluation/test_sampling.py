"""Grading, on a policy whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gates
import pytest
import torch

from rairl_lightning.evaluation.sampling import answer_questions
from rairl_lightning.rollouts import HFSampler, Sampler
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.graders import Grade, Grader, Question
from rairl_lightning.types import Rollouts, TokenBatch

ANSWERS = (("left", "right", "left"), ("right", None, "up"))


@dataclass(frozen=True)
class Parrot(Sampler):
    def sample(self, policy: Any, prompts: Any, group_size: int, codec: Any, generator: Any, **_: Any) -> Rollouts:
        texts = [render_completion("", one) if one else "no answer" for group in ANSWERS for one in group]
        traces = [codec.trace(prompts[i // group_size], codec.encode_completion(t))[0] for i, t in enumerate(texts)]
        tokens = TokenBatch.from_traces(traces, codec.pad_id)
        zeros = torch.zeros(tokens.input_ids.shape)
        return Rollouts(tokens, zeros, torch.ones(6, dtype=torch.bool), tuple(texts), group_size)


@pytest.fixture(scope="module")
def pair(base: Path) -> Any:
    return gates.full(base).build()


def test_grades_and_classes_by_hand(pair: Any) -> None:
    policy = SimpleNamespace(device=torch.device("cpu"))
    questions = [gates.solution(0), gates.solution(1)]
    answered = answer_questions(policy, Parrot(), pair.codec, questions, 3, seed=0)
    assert answered.correct_QN.tolist() == [[True, False, True], [False, False, False]]
    same = answered.classes_QN
    assert same[0, 0] == same[0, 2] != same[0, 1] and same[1, 1] == -1 and same[1, 0] != same[1, 2]


def test_the_grader_says_what_is_right_and_what_is_the_same(pair: Any) -> None:
    @dataclass(frozen=True)
    class Contrary(Grader):
        def __call__(self, answer: str | None, question: Question) -> Grade:
            return Grade.UNKNOWN if answer == "up" else Grade.WRONG if answer == question.answer else Grade.RIGHT

        def same(self, first: str, second: str, question: Question) -> bool:
            return True

    policy, questions = SimpleNamespace(device=torch.device("cpu")), [gates.solution(0), gates.solution(1)]
    answered = answer_questions(policy, Parrot(), pair.codec, questions, 3, seed=0, grader=Contrary())
    exact = answer_questions(policy, Parrot(), pair.codec, questions, 3, seed=0)
    assert answered.correct_QN[0].tolist() == (~exact.correct_QN[0]).tolist()
    assert not answered.correct_QN[1, 2], "unknown is not right"
    assert answered.classes_QN.tolist() == [[0, 0, 0], [0, -1, 0]]


def test_the_seed_decides_the_traces(pair: Any) -> None:
    questions = [gates.solution(i) for i in range(4)]

    def texts(seed: int, temperature: float | None = None) -> tuple[str, ...]:
        sampler = HFSampler(max_new_tokens=20)
        answered = answer_questions(pair.policy, sampler, pair.codec, questions, 4, seed=seed, temperature=temperature)
        return answered.rollouts.texts

    assert texts(0) == texts(0) != texts(1)
    assert texts(0, temperature=0.0) == texts(1, temperature=0.0), "greedy asks no one"
