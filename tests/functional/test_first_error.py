import math
import time

import numpy as np
import pytest
import reference_localisation as reference
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import (
    accuracy_curve,
    broken_rows,
    first_below,
    fit_threshold,
    harmonic_mean,
    lowest_step_hits,
    right_thresholds,
)


def padded(solutions):
    width = max(map(len, solutions))
    scores = torch.zeros(len(solutions), width, dtype=torch.float64)
    steps = torch.zeros(len(solutions), width, dtype=torch.bool)
    for n, solution in enumerate(solutions):
        scores[n, : len(solution)] = torch.tensor(solution, dtype=torch.float64)
        steps[n, : len(solution)] = True
    return scores, steps


def drawn(rng, count, levels=5):
    """Solutions of 1 to 6 steps with few distinct scores, half of them with a wrong step."""
    solutions = [rng.integers(-levels, levels, rng.integers(1, 7)).tolist() for _ in range(count)]
    labels = [int(rng.integers(len(s))) if rng.random() < 0.5 else -1 for s in solutions]
    return solutions, labels


TOY = ([[1, 0.2, 0.9], [0.5, -1, 0.3], [0.9, 0.8], [0.4, 0.7, 0.6]], [-1, 1, -1, 0])


def test_toy_worked_by_hand():
    """At 0.45 the first is accused of its second step, the second and the fourth are right, the third is cleared."""
    scores, steps = padded(TOY[0])
    predicted = first_below(scores, steps, torch.full((4,), 0.45))
    assert predicted.tolist() == [1, 1, -1, 0]
    assert harmonic_mean(torch.tensor(2 / 2), torch.tensor(1 / 2)).item() == pytest.approx(2 / 3)
    low, high = right_thresholds(scores, steps, torch.tensor(TOY[1]))
    assert low.tolist() == [-math.inf, -1, -math.inf, 0.4] and high.tolist() == [0.2, 0.5, 0.8, math.inf]
    thresholds, erroneous, correct = accuracy_curve(low, high, torch.tensor([False, True, False, True]))
    worked = [(-1, 0, 1), (-0.4, 0.5, 1), (0.3, 0.5, 0.5), (0.45, 1, 0.5), (0.65, 0.5, 0.5), (1.8, 0.5, 0)]
    assert np.allclose(torch.stack([thresholds, erroneous, correct], 1), worked)
    assert fit_threshold(low, high, torch.tensor([False, True, False, True])) == pytest.approx(-0.4)  # 2/3, the lower


def test_the_fit_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    fitted, cruder = [], []
    for _ in range(60):
        solutions, labels = drawn(rng, 12)
        labels[:2] = [0, -1]
        scores, steps = padded(solutions)
        ends = right_thresholds(scores, steps, torch.tensor(labels))
        threshold = fit_threshold(*ends, torch.tensor(labels) >= 0)
        best = reference.best_f1(solutions, labels)
        assert reference.f1_of(solutions, labels, threshold) == pytest.approx(best)
        predicted = first_below(scores, steps, torch.full((12,), threshold))
        assert predicted.tolist() == [reference.first_below(s, threshold) for s in solutions]
        fitted.append(best)
        cruder.append(reference.f1_of(solutions, labels, float(scores[steps].median())))
    assert np.mean(cruder) < np.mean(fitted) - 0.05  # control: not any threshold does


def test_the_curve_is_the_accuracy_of_each_threshold():
    rng = np.random.default_rng(1)
    solutions, labels = drawn(rng, 40)
    scores, steps = padded(solutions)
    wrong = torch.tensor(labels) >= 0
    curve = accuracy_curve(*right_thresholds(scores, steps, torch.tensor(labels)), wrong)
    for threshold, erroneous, correct in zip(*(column.tolist() for column in curve), strict=True):
        both = harmonic_mean(*torch.tensor([[erroneous], [correct]])).item()
        assert both == pytest.approx(reference.f1_of(solutions, labels, threshold), abs=1e-6)
    assert bool((curve[0].diff() > 0).all())


def test_neighbouring_numbers_are_told_apart():
    low = 1.0
    high = np.nextafter(low, 2)
    scores, steps = padded([[low], [high]])
    ends = right_thresholds(scores, steps, torch.tensor([0, -1]))
    threshold = fit_threshold(*ends, torch.tensor([True, False]))
    assert first_below(scores, steps, torch.full((2,), threshold, dtype=torch.float64)).tolist() == [0, -1]


def test_rows_and_padding_do_not_matter():
    rng = np.random.default_rng(2)
    solutions, labels = drawn(rng, 30)
    scores, steps = padded(solutions)
    label = torch.tensor(labels)
    order = torch.randperm(30)
    wide = torch.cat([scores, torch.full((30, 4), -9.0)], 1), torch.cat([steps, torch.zeros(30, 4).bool()], 1)
    threshold = fit_threshold(*right_thresholds(scores, steps, label), label >= 0)
    assert fit_threshold(*right_thresholds(scores[order], steps[order], label[order]), label[order] >= 0) == threshold
    assert fit_threshold(*right_thresholds(*wide, label), label >= 0) == threshold
    at = torch.full((30,), threshold)
    assert torch.equal(first_below(*wide, at), first_below(scores, steps, at))
    assert torch.equal(lowest_step_hits(*wide, label.clamp(min=0)), lowest_step_hits(scores, steps, label.clamp(min=0)))


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_a_score_that_is_not_finite_predicts_nothing(bad):
    scores, steps = padded([[1.0, bad, 2.0], [bad, 1.0, 1.0], [1.0, 1.0, -3.0]])
    assert broken_rows(scores, steps).tolist() == [True, True, False]
    for labels in ([1, 0, 2], [-1, -1, -1]):
        low, high = right_thresholds(scores, steps, torch.tensor(labels))
        assert low.tolist()[:2] == [math.inf] * 2 == high.tolist()[:2]
        wrong = torch.tensor(labels) >= 0
        _, *accuracies = accuracy_curve(low, high, wrong)
        assert accuracies[0 if wrong.all() else 1].max().item() == pytest.approx(1 / 3), "they count as misses"
    assert lowest_step_hits(scores, steps, torch.tensor([1, 0, 2])).tolist() == [0, 0, 1]


def test_one_class_alone_is_fitted_on_itself():
    scores, steps = padded([[1.0, -2.0], [3.0, -1.0]])
    wrong = torch.tensor([1, 1])
    threshold = fit_threshold(*right_thresholds(scores, steps, wrong), wrong >= 0)
    assert first_below(scores, steps, torch.full((2,), threshold)).tolist() == [1, 1]
    clear = torch.tensor([-1, -1])
    threshold = fit_threshold(*right_thresholds(scores, steps, clear), clear >= 0)
    assert first_below(scores, steps, torch.full((2,), threshold)).tolist() == [-1, -1]


def test_lowest_steps_by_hand():
    scores, steps = padded([[1, -1, 0], [1, -1, -1], [2, 2, 2], [5]])
    assert lowest_step_hits(scores, steps, torch.tensor([1, 2, 0, 0])).tolist() == [1, 0.5, 0, 1]
    assert lowest_step_hits(scores, steps, torch.tensor([2, 0, 1, 0])).tolist() == [0, 0, 0, 1]


def test_labels_are_checked():
    scores, steps = padded([[1.0, 2.0], [1.0]])
    for labels in ([0, 1], [2, 0], [-2, 0]):
        with pytest.raises((DataError, RuntimeError)):
            right_thresholds(scores, steps, torch.tensor(labels))
    with pytest.raises(DataError, match="names no step"):
        lowest_step_hits(scores, steps, torch.tensor([-1, 0]))
    with pytest.raises(DataError, match="no solution"):
        fit_threshold(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.bool))


def test_thousands_of_solutions_take_a_moment(generator):
    scores = torch.randn(5000, 12, generator=generator)
    steps = torch.ones(5000, 12, dtype=torch.bool)
    labels = torch.randint(-1, 12, (5000,), generator=generator)
    start = time.process_time()
    fit_threshold(*right_thresholds(scores, steps, labels), labels >= 0)
    assert time.process_time() - start < 1
