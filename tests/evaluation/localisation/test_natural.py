"""First wrong steps: a toy set by hand, the halves, the constants, and what is odd."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from rairl_lightning.data.demonstrations.base import hold_out
from rairl_lightning.data.traces.base import LabelledSteps
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.localisation.natural import (
    NO_PREDICTION,
    ScoredSteps,
    constant_hits,
    cross_fitted,
)
from rairl_lightning.evaluation.localisation.natural_figures import natural_figures
from rairl_lightning.evaluation.localisation.solutions import StepTrace
from rairl_lightning.types import TraceIds

Solution = tuple[str, int, list[float]]


def scored(*solutions: Solution, **others: list[list[float]]) -> ScoredSteps:
    """Solutions as question, label and scores of their steps; further methods by name."""
    traces, scores = [], []
    for row, (question, label, values) in enumerate(solutions):
        steps = tuple("x" for _ in values)
        solution = LabelledSteps(str(row), question, steps, label, meta={"subset": question[0]})
        traces.append(StepTrace(solution, TraceIds([], [], [], []), "", (), tuple((k, k) for k in range(len(values)))))
        methods = {"reward": values, **{name: given[row] for name, given in others.items()}}
        scores.append({name: torch.tensor(given, dtype=torch.float64) for name, given in methods.items()})
    return ScoredSteps.build(traces, scores, by=["subset"])


def figures(solutions: ScoredSteps, seed: int = 0) -> dict[str, Any]:
    return natural_figures(solutions, {m: cross_fitted(solutions, m)[0] for m in solutions.scores}, seed)


def halves() -> tuple[list[str], list[str]]:
    """Questions of the first and of the second half."""
    names = [f"q{number}" for number in range(40)]
    first, second = hold_out(names, 0.5, lambda name: name, salt="localise")
    return list(first), list(second)


def test_halves_of_a_selection_split_are_halves() -> None:
    """Its questions all have a low hash, by which they were held out of training."""
    _, names = hold_out([f"q{number}" for number in range(400)], 0.1, lambda name: name)
    solutions = scored(*((name, -1, [1.0, 1.0]) for name in names))
    assert len(names) > 20 and 0.3 < solutions.second_N.double().mean() < 0.7


def test_a_toy_set_by_hand() -> None:
    """The first half parts its classes between -1 and 1, the second between 4 and 6: each is judged by the other's."""
    (a, b, *_), (c, d, *_) = halves()
    solutions = scored((a, 1, [1, -1]), (b, -1, [1, 1]), (c, 1, [6, 4]), (d, -1, [6, 6]))
    predicted, thresholds = cross_fitted(solutions, "reward")
    assert thresholds == (5.0, 0.0), "used on the first half, and on the second"
    assert predicted.tolist() == [0, 0, -1, -1]
    found = figures(solutions)
    assert found["accuracy_erroneous"]["reward"][0] == 0 and found["accuracy_correct"]["reward"][0] == 0.5
    assert found["f1"]["reward"][0] == 0 and found["lowest_step"]["reward"][0] == 1
    same = scored((a, 1, [1, -1]), (b, -1, [1, 1]), (c, 1, [1, -1]), (d, -1, [1, 1]))
    assert figures(same)["f1"]["reward"] == [1.0, 1.0, 1.0]


def test_f1_by_hand() -> None:
    """Of five erroneous solutions three are right, of four correct ones two: F1 = 2 · 0.6 · 0.5 / 1.1."""
    (a, b, *_), (c, d, *_) = halves()
    good, clear = [1.0, -1.0], [1.0, 1.0]
    erroneous = [(a, 1, good), (c, 1, good), (b, 1, good), (d, 1, clear), (a, 0, good)]
    correct = [(a, -1, clear), (c, -1, clear), (b, -1, good), (d, -1, good)]
    found = figures(scored(*erroneous, *correct))
    assert found["accuracy_erroneous"]["reward"][0] == 0.6 and found["accuracy_correct"]["reward"][0] == 0.5
    assert found["f1"]["reward"][0] == pytest.approx(2 * 0.6 * 0.5 / 1.1, abs=1e-4)
    assert found["solutions"] == 9 and found["erroneous"] == 5 and found["questions"] == 4


def test_no_solution_helps_to_choose_its_own_threshold() -> None:
    rng = random.Random(0)
    names = [f"q{number}" for number in range(30)]
    drawn = [(name, rng.choice([-1, 0, 1]), [rng.random(), rng.random()]) for name in names]
    predicted, (on_first, on_second) = cross_fitted(scored(*drawn), "reward")
    for row, (name, _, values) in enumerate(drawn):
        for label in (-1, 0, 1):  # whatever its own label is
            changed = [*drawn[:row], (name, label, values), *drawn[row + 1 :]]
            assert cross_fitted(scored(*changed), "reward")[0][row] == predicted[row]
    assert on_first != on_second, "control: the halves are two"


def test_one_question_cannot_be_halved() -> None:
    with pytest.raises(DataError, match="2 different questions"):
        scored(("a", 0, [1.0]), ("A ", -1, [1.0]))


def test_order_and_batches_do_not_matter() -> None:
    rng = random.Random(1)
    drawn = [
        (f"q{n % 17}", rng.choice([-1, 0, 1]), [rng.gauss(0, 1) for _ in range(rng.randint(2, 5))]) for n in range(60)
    ]
    whole = figures(scored(*drawn))
    shuffled = figures(scored(*rng.sample(drawn, len(drawn))))
    for name in ("f1", "accuracy_correct", "lowest_step", "auroc_steps", "auroc_solutions"):
        assert shuffled[name]["reward"][0] == whole[name]["reward"][0]
    assert figures(scored(*drawn)) == whole
    assert figures(scored(*drawn), seed=1)["f1"]["reward"][1:] != whole["f1"]["reward"][1:], "control"


def test_constants_by_hand_and_by_simulation() -> None:
    solutions = scored(("q1", 1, [1, 1, 1]), ("q2", -1, [1]), ("q3", 0, [1]), ("q4", 2, [1, 1, 1]))
    hits = constant_hits(solutions)
    assert hits["never"].tolist() == [0, 1, 0, 0] and hits["first"].tolist() == [0, 0, 1, 0]
    assert hits["last"].tolist() == [0, 0, 1, 1]
    rng = random.Random(0)
    for row, expected in enumerate(hits["random"].tolist()):
        steps, label = int(solutions.steps_NK[row].sum()), int(solutions.labels_N[row])
        share = sum(rng.randrange(-1, steps) == label for _ in range(4000)) / 4000
        assert share == pytest.approx(expected, abs=0.03)
    assert hits["random"].tolist() == [1 / 4, 1 / 2, 1 / 2, 1 / 4]
    found = figures(solutions)
    assert found["lowest_step"]["random"][0] == pytest.approx((1 / 3 + 1 + 1 / 3) / 3, abs=1e-4), "of erroneous ones"
    assert found["auroc_steps"]["random"] == [0.5] * 3


def test_areas_agree_with_the_library() -> None:
    rng = random.Random(2)
    drawn = [
        (f"q{n % 40}", rng.choice([-1, 0, 1, 2]), [round(rng.gauss(0, 1), 1) for _ in range(3)]) for n in range(80)
    ]
    found = figures(scored(*drawn))
    before = [label < 0 or k < label for _, label, _ in drawn for k in range(3)]
    values = [value for _, _, row in drawn for value in row]
    assert found["auroc_steps"]["reward"][0] == pytest.approx(roc_auc_score(before, values), abs=1e-4)
    lowest = roc_auc_score([label < 0 for _, label, _ in drawn], [min(row) for *_, row in drawn])
    assert found["auroc_solutions"]["reward"][0] == pytest.approx(lowest, abs=1e-4)
    value, low, high = found["auroc_steps"]["reward"]
    assert low < value < high and found["auroc_steps"]["reward"] != found["auroc_solutions"]["reward"]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_broken_scores_are_misses_of_either_kind(bad: float) -> None:
    (a, b, *_), (c, d, *_) = halves()
    good = [(a, 1, [1.0, -1.0]), (b, -1, [1.0, 1.0]), (c, 1, [1.0, -1.0]), (d, -1, [1.0, 1.0])]
    solutions = scored(*good, (a, -1, [1.0, bad]), (c, 1, [1.0, bad]))
    predicted, _ = cross_fitted(solutions, "reward")
    assert predicted.tolist() == [1, -1, 1, -1, NO_PREDICTION, NO_PREDICTION]
    found = figures(solutions)
    assert found["accuracy_erroneous"]["reward"][0] == pytest.approx(2 / 3, abs=1e-4)
    assert found["accuracy_correct"]["reward"][0] == pytest.approx(2 / 3, abs=1e-4)
    assert found["auroc_steps"]["reward"][0] == 1, "they are left out of what is ranked"
    assert solutions.broken("reward").tolist() == [False] * 4 + [True] * 2


def test_one_class_alone_has_no_f1() -> None:
    found = figures(scored(*[(f"q{n}", 1, [1.0, -1.0]) for n in range(10)]))
    assert math.isnan(found["f1"]["reward"][0]) and math.isnan(found["auroc_solutions"]["reward"][0])
    assert found["accuracy_erroneous"]["reward"] == [1.0, 1.0, 1.0]


def test_a_flat_reward_finds_no_step() -> None:
    drawn = [(f"q{n}", n % 3 - 1, [0.0, 0.0, 0.0]) for n in range(30)]
    found = figures(scored(*drawn))
    assert found["lowest_step"]["reward"][0] == 0 and found["auroc_steps"]["reward"][0] == 0.5
    assert found["f1"]["reward"][0] <= found["f1"]["first"][0] + found["f1"]["never"][0]


def test_gains_are_paired() -> None:
    rng = random.Random(3)
    drawn = [(f"q{n}", rng.choice([-1, 0, 1]), [rng.gauss(0, 1), rng.gauss(0, 1)]) for n in range(60)]
    found = figures(scored(*drawn, same=[values for *_, values in drawn]))
    assert found["f1_gain"]["same"] == [0.0, 0.0, 0.0]
    assert found["f1_gain"]["random"][1] < found["f1_gain"]["random"][2], "control"


def test_subsets_are_named_by_the_meta() -> None:
    solutions = scored(("a1", 0, [1.0]), ("b1", -1, [1.0]))
    assert solutions.subsets == ("a", "b")
    part = solutions.select(torch.tensor([1]))
    assert part.labels_N.tolist() == [-1] and part.subsets == ("b",) and part.scores["reward"].tolist() == [[1.0]]
