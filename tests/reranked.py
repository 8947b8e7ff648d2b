"""Scored questions out of nothing, for the tests of reranking."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.text.graders import Grade
from rairl_lightning.types import Demonstration

GRADES = {"r": Grade.RIGHT, "w": Grade.WRONG, "?": Grade.UNKNOWN, "-": Grade.UNANSWERED}
POOLING = "Minimum"


def scored(
    prompt: str,
    grades: str,
    rewards: Sequence[float],
    answers: str | None = None,
    *,
    logprobs: Sequence[float] | None = None,
    lengths: Sequence[int] | None = None,
    category: str = "",
    texts: Sequence[str] | None = None,
    **other: Sequence[float],
) -> ScoredQuestion:
    """One letter a trace: ``r``ight, ``w``rong, ``?`` unknown, ``-`` unanswered; answers by letter too.

    By default all right traces agree, and every wrong one stands alone.
    """
    count = len(grades)
    answers = answers or "".join("A" if one == "r" else chr(ord("B") + i) for i, one in enumerate(grades))
    stated = [None if grade == "-" else answer for grade, answer in zip(grades, answers, strict=True)]
    seen = list(dict.fromkeys(answer for answer in stated if answer))
    texts = texts or [f"{prompt} {i} {answer}" for i, answer in enumerate(stated)]
    meta = {"category": category} if category else {}
    sampled = SampledQuestion(
        Demonstration(prompt, prompt, "", "A", meta),
        tuple(texts),
        tuple(stated),
        tuple(GRADES[one] for one in grades),
        tuple(-1 if answer is None else seen.index(answer) for answer in stated),
        tuple({"id": f"{prompt}-{i}", "text": text} for i, text in enumerate(texts)),
    )
    return ScoredQuestion(
        sampled,
        {POOLING: tuple(rewards), **{name: tuple(values) for name, values in other.items()}},
        tuple(logprobs or [-1.0] * count),
        tuple(lengths or [10] * count),
    )


def some(count: int, size: int, seed: int = 0, *, informative: float = 1.0, ties: bool = False) -> list[ScoredQuestion]:
    """Random questions in three categories, whose rewards know more or less of what is right."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for question in range(count):
        right = torch.rand(size, generator=generator) < torch.rand(1, generator=generator)
        rewards = torch.randn(size, generator=generator) + informative * right
        rewards = rewards.round() if ties else rewards
        answers = ["A" if one else "BCD"[int(torch.randint(3, (1,), generator=generator))] for one in right]
        out.append(
            scored(
                f"question {seed} {question}",
                "".join("r" if one else "w" for one in right),
                rewards.tolist(),
                "".join(answers),
                logprobs=torch.randn(size, generator=generator).tolist(),
                lengths=torch.randint(5, 9, (size,), generator=generator).tolist(),
                category=("law", "physics", "maths")[question % 3],
            )
        )
    return out


def shuffled(one: ScoredQuestion, order: Sequence[int]) -> ScoredQuestion:
    """The same question with its traces in another order, and its classes numbered anew."""
    sampled = one.sampled
    stated = [sampled.answers[i] for i in order]
    seen = list(dict.fromkeys(answer for answer in stated if answer is not None))

    def take(values: Sequence) -> tuple:
        return tuple(values[i] for i in order)

    return ScoredQuestion(
        SampledQuestion(
            sampled.question,
            take(sampled.completions),
            tuple(stated),
            take(sampled.grades),
            tuple(-1 if answer is None else seen.index(answer) for answer in stated),
            take(sampled.records),
        ),
        {name: take(values) for name, values in one.rewards.items()},
        take(one.logprobs),
        take(one.lengths),
        one.problems,
        {name: take(values) for name, values in one.log_weights.items()},
    )
