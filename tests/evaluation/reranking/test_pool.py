"""Traces of any number a question: what is left out, what is counted, and every rule against enumeration."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import reference_ranking as reference
import torch
from reranked import POOLING, scored, shuffled, some

from rairl_lightning.evaluation.reranking.pool import ScoredQuestion, TracePool, oddities, pool_of

NAN = float("nan")


def question_of(pool: TracePool, index: int) -> list[list]:
    rows = pool.questions_M == index
    columns = (pool.correct_M, pool.classes_M, pool.rewards_M, pool.logprobs_M, pool.lengths_M)
    return [column[rows].tolist() for column in columns]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_rule_agrees_with_enumeration(n: int) -> None:
    """Groups of three, four and five; those that are too small are left out."""
    questions = [one for size in (3, 4, 5) for one in some(4, size, seed=size, ties=True)]
    pool = pool_of(questions, POOLING)
    values, taken = pool.chosen_right(n)
    assert len(taken) == sum(len(one.sampled.completions) >= n for one in questions)
    for place, index in enumerate(taken.tolist()):
        correct, classes, rewards, logprobs, lengths = question_of(pool, index)
        answers = [None if k < 0 else str(k) for k in classes]
        weights = torch.sigmoid(torch.tensor(rewards, dtype=torch.float64)).tolist()
        expected = {
            "reward": reference.best_of_n(rewards, correct, n),
            "weighted": reference.vote_of_n(answers, correct, weights, n),
            "majority": reference.vote_of_n(answers, correct, [1] * len(answers), n),
            "logprob": reference.best_of_n(logprobs, correct, n),
            "shortest": reference.best_of_n([-length for length in lengths], correct, n),
            "random": np.mean(correct),
            "oracle": float(reference.pass_at_k(len(correct), sum(correct), n)),
        }
        found = {rule: value[place].item() for rule, value in values.items()}
        assert found == pytest.approx(expected, abs=1e-9)
        if n > 1 and 0 < sum(correct) < len(correct):
            assert found["oracle"] != pytest.approx(expected["random"], abs=1e-9)  # control


def test_unknown_is_not_wrong_and_unanswered_is() -> None:
    one = scored("q", "r?w-", [1.0, 9.0, 3.0, 2.0])
    pool = pool_of([one], POOLING)
    values, _ = pool.chosen_right(3)
    assert values["random"].item() == pytest.approx(1 / 3), "of three; the unknown one is not among them"
    assert values["reward"].item() == 0, "the wrong one, at 3; the unknown one, at 9, cannot be judged"
    assert values["majority"].item() == 0.5, "one vote each; who does not answer does not vote"
    assert len(pool.chosen_right(4)[1]) == 0, "the unknown trace is missing from its group"
    counts = oddities([one], POOLING)
    assert (counts["traces"], counts["traces_unknown"], counts["traces_unanswered"]) == (4, 1, 1)


def test_a_trace_without_reward_ranks_last() -> None:
    one = scored("q", "rw", [NAN, -50.0])
    values, _ = pool_of([one], POOLING).chosen_right(2)
    assert (values["reward"].item(), values["weighted"].item()) == (0, 0)
    both = pool_of([scored("q", "rw", [NAN, NAN])], POOLING).chosen_right(2)[0]
    assert (both["reward"].item(), both["weighted"].item()) == (0.5, 0.5), "nothing to choose by"
    assert oddities([one], POOLING)["traces_without_reward"] == 1
    assert oddities([scored("q", "rw", [0.0, 1.0])], POOLING)["traces_without_reward"] == 0  # control


def test_what_is_odd_is_counted() -> None:
    questions = [
        scored("single", "r", [1.0]),
        scored("all right", "rr", [1.0, 1.0]),
        scored("all wrong", "w-w", [1.0, 2.0, 3.0]),
        scored("nobody knows", "??", [1.0, 2.0]),
        replace(
            scored("empty", "-w", [NAN, 2.0], logprobs=[NAN, -1.0]), problems=("empty", "no_answer", "text_changed")
        ),
    ]
    found = {name: count for name, count in oddities(questions, POOLING).items() if count}
    assert found == {
        "questions": 5,
        "traces": 10,
        "traces_right": 3,
        "traces_wrong": 3,
        "traces_unknown": 2,
        "traces_unanswered": 2,
        "traces_empty": 1,
        "traces_text_changed": 1,
        "traces_without_reward": 1,
        "traces_without_logprob": 1,
        "questions_without_grade": 1,
        "questions_with_one_trace": 1,
        "questions_all_right": 2,
        "questions_all_wrong": 2,
        "questions_all_tied": 1,
    }
    assert len(pool_of(questions, POOLING)) == 4, "a question without a grade is no question"


def test_the_order_of_the_file_is_forgotten() -> None:
    questions = some(6, 5, ties=True)

    def disordered(seed: int) -> list[ScoredQuestion]:
        draw = random.Random(seed)
        return draw.sample([shuffled(one, draw.sample(range(5), 5)) for one in questions], 6)

    first, second = (pool_of(disordered(seed), POOLING) for seed in (1, 2))
    assert first.categories == second.categories
    for name in ("questions_M", "correct_M", "rewards_M", "logprobs_M", "lengths_M"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for n in (2, 5):
        (a, _), (b, _) = first.chosen_right(n), second.chosen_right(n)
        assert all(torch.equal(a[rule], b[rule]) for rule in a)
    assert not torch.equal(first.rewards_M, pool_of(some(6, 5, seed=1), POOLING).rewards_M)  # control
