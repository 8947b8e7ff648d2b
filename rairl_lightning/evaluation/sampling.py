"""Several answers to each question, graded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rairl_lightning.functional.ranking import answer_classes
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.policy import Policy
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.graders import Exact, Grade, Grader
from rairl_lightning.types import Demonstration, Rollouts


@dataclass(frozen=True)
class Answered:
    """Q questions with N graded traces each.

    Attributes:
        rollouts: the Q·N traces, those of one question adjacent.
        correct_QN: ``[Q, N]`` bool, whether the answer is right; one that could not be graded is not.
        classes_QN: ``[Q, N]`` int64, equal for traces of a question whose answers agree; -1 without an answer.
    """

    rollouts: Rollouts
    correct_QN: Tensor
    classes_QN: Tensor

    def per_question(self, values_N: Tensor) -> Tensor:
        """Reshape one value a trace to ``[Q, N]`` on the CPU."""
        return values_N.reshape(-1, self.rollouts.group_size).cpu()


def answer_questions(
    policy: Policy,
    sampler: Sampler,
    codec: TraceCodec,
    questions: Sequence[Demonstration],
    samples: int,
    *,
    seed: int,
    temperature: float | None = None,
    grader: Grader = Exact(),
) -> Answered:
    """Sample ``samples`` traces of each question and grade them.

    Args:
        policy: who answers.
        sampler: how.
        codec: of the policy.
        questions: Q of them; their reasoning is not read.
        samples: N, >= 1.
        seed: the same seed gives the same traces of the same policy.
        temperature: instead of the sampler's; 0 is greedy.
        grader: of the answers; the data set's.
    """
    generator = torch.Generator(device=policy.device).manual_seed(seed)
    prompts = [codec.encode_prompt(question.prompt) for question in questions]
    rollouts = sampler.sample(policy, prompts, samples, codec, generator, temperature=temperature)
    answers = [extract_answer(text) for text in rollouts.texts]
    groups = [answers[start : start + samples] for start in range(0, len(answers), samples)]
    pairs = list(zip(questions, groups, strict=True))
    correct = [[grader(answer, question) is Grade.RIGHT for answer in group] for question, group in pairs]
    classes = [answer_classes(group, partial(grader.same, question=question)) for question, group in pairs]
    shape = (len(questions), samples)
    return Answered(
        rollouts,
        torch.tensor(correct, dtype=torch.bool).reshape(shape),
        torch.tensor(classes, dtype=torch.int64).reshape(shape),
    )
