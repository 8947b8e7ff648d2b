"""The small functions against their equations: reductions, poolings, rewards, segments, choices and splits."""

import math

import numpy as np
import pytest
import reference_grid
import reference_localisation
import reference_masking as reference
import reference_ranking
import torch

from rairl_lightning.components import (
    AnswerAgreement,
    ClippedLogit,
    Dense,
    ExpertsOnly,
    Interval,
    Last,
    MeanOverGrid,
    Minimum,
    Product,
    Sparse,
    Step,
    TokenWeighted,
)
from rairl_lightning.functional import (
    answer_classes,
    auroc,
    best_index,
    best_of_n,
    bootstrap_interval,
    grouped_auroc,
    hits,
    largest_drop,
    last_value,
    local_rivals,
    log_product,
    logit_to_reward,
    lowest_value,
    majority_vote,
    masked_mean,
    masked_sum,
    next_point,
    oracle,
    paired_bootstrap,
    paired_budget_split,
    previous_point,
    random_choice,
    reward_grid,
    token_budget_split,
    weighted_vote,
)
from rairl_lightning.types import TokenBatch

POOLINGS = {
    "token weighted": TokenWeighted(),
    "mean": MeanOverGrid(),
    "last": Last(),
    "minimum": Minimum(),
    "product": Product(),
}


@pytest.fixture(params=["left", "right"])
def case(request, generator, ragged):
    mask = ragged(side=request.param)
    return torch.randn(mask.shape, dtype=torch.float64, generator=generator), mask


def rows_of(values, mask):
    return [row[kept].tolist() for row, kept in zip(values, mask, strict=True)]


def test_reductions_agree_with_the_equations(case):
    values, mask = case
    rows = rows_of(values, mask)
    kinds = {
        "sum": (masked_sum, reference.total),
        "mean": (masked_mean, reference.mean),
    }
    for name, (ours, _) in kinds.items():
        by_row = {other: [theirs(row) for row in rows] for other, (_, theirs) in kinds.items()}
        found = ours(values, mask, 1).tolist()
        assert [other for other, expected in by_row.items() if found == pytest.approx(expected)] == [name]  # controls
        whole = [value for row in rows for value in row]
        assert ours(values, mask).item() == pytest.approx(kinds[name][1](whole))
        columns = rows_of(values.T, mask.T)
        assert ours(values, mask, 0).tolist() == pytest.approx([kinds[name][1](column) for column in columns])


@pytest.mark.parametrize("every", [2, 3])
def test_poolings_agree_with_the_equations(case, every):
    values, mask = case
    mask = mask.clone()
    mask[0] = False  # an empty completion is worth 0
    grid = reward_grid(mask, every=every)
    rows = rows_of(values, grid)
    lengths = [np.diff([0, *(np.flatnonzero(g[m]) + 1)]) for g, m in zip(grid.numpy(), mask.numpy(), strict=True)]
    expected = {
        kind: [reference.pooled(kind, row, some) for row, some in zip(rows, lengths, strict=True)] for kind in POOLINGS
    }
    functions = {"last": last_value, "minimum": lowest_value, "product": log_product}
    for kind, pooling in POOLINGS.items():
        found = pooling(values, grid, mask).tolist()
        assert [k for k, scores in expected.items() if found == pytest.approx(scores)] == [kind]  # controls
        if kind in functions:
            assert torch.equal(functions[kind](values, grid), pooling(values, grid, mask))


def test_rewards_agree_with_the_equation(case):
    logits, mask = 3 * case[0], case[1]
    expected = {
        (t, c): torch.tensor([[reference.reward(d, t, c) for d in row] for row in logits.tolist()], dtype=torch.float64)
        for t, c in ((1.0, 5.0), (2.0, 1.0), (2.0, 1.1))
    }
    for temperature, clip in ((1.0, 5.0), (2.0, 1.0)):
        found = logit_to_reward(logits, temperature, clip)
        close = [key for key, values in expected.items() if torch.allclose(found, values)]
        assert close == [(temperature, clip)]  # controls
        tokens = TokenBatch(mask.long(), mask, mask, mask, mask[..., None].int().expand(-1, -1, 2))
        paid = ClippedLogit(temperature, clip)(logits, mask, tokens)
        assert torch.equal(paid, found * mask)
    assert torch.equal(logit_to_reward(logits), logit_to_reward(logits, 1.0, 5.0))


def test_granularities_agree_with_their_words(case, generator):
    """The four of the paper, against loops."""
    mask = case[1]
    ends = torch.rand(mask.shape, generator=generator) < 0.3
    tokens = TokenBatch(mask.long(), mask, mask, ends, mask[..., None].int().expand(-1, -1, 2))
    expected = {
        Sparse(): reference_grid.reward_grid(mask.numpy()),
        Interval(4): reference_grid.reward_grid(mask.numpy(), every=4),
        Step(): reference_grid.reward_grid(mask.numpy(), ends=ends.numpy()),
        Dense(): mask.numpy(),
    }
    for granularity in expected:
        found = granularity(tokens).numpy()
        assert [g for g, grid in expected.items() if np.array_equal(found, grid)] == [granularity]  # controls


def test_neighbouring_points_agree_with_the_loops(case):
    _, mask = case
    grid = reward_grid(mask, every=3)
    assert np.array_equal(next_point(grid, mask).numpy(), reference_grid.next_point(grid.numpy(), mask.numpy()))
    assert np.array_equal(previous_point(grid).numpy(), reference_grid.previous_point(grid.numpy()))
    moved = reward_grid(mask, every=2)
    assert not np.array_equal(next_point(moved, mask).numpy(), next_point(grid, mask).numpy())  # control
    half = grid & (torch.arange(grid.shape[1]) % 2 == 0)  # a grid that stops early, on tokens that do not count
    kept = mask & (torch.arange(grid.shape[1]) % 3 > 0)
    assert np.array_equal(next_point(half, kept).numpy(), reference_grid.next_point(half.numpy(), kept.numpy()))


@pytest.mark.parametrize("every", [1, 4])
def test_hits_agree_with_the_loop(ragged, generator, every):
    mask = ragged(rows=40)
    scores = torch.randint(-3, 3, mask.shape, generator=generator).double()  # few values: ties and flat rows
    grid = reward_grid(mask, every=every)
    rows = list(zip(scores.tolist(), grid.numpy(), strict=True))
    expected = [reference_localisation.largest_drop(*row) for row in rows]
    found = largest_drop(scores, grid, mask)
    assert every == 1 or -1 in expected
    target = torch.rand(mask.shape, generator=generator) < 0.5
    inside = [column >= 0 and bool(target[n, column]) for n, column in enumerate(expected)]
    assert hits(found, target).tolist() == inside
    assert hits(found, ~target).tolist() != inside  # control


def test_choices_agree_with_the_loops(generator):
    scores = torch.randint(0, 5, (20, 6), generator=generator).double()
    correct = torch.rand(20, 6, generator=generator) < 0.4
    rows = list(zip(scores.tolist(), correct.tolist(), strict=True))
    assert random_choice(correct).tolist() == pytest.approx([np.mean(c) for _, c in rows])
    assert oracle(correct).tolist() == [float(max(c)) for _, c in rows]
    assert best_index(scores).tolist() == [s.index(max(s)) for s, _ in rows]
    assert best_index(-scores).tolist() != best_index(scores).tolist()  # control
    names = [[None, "a", "b", "c"][k] for k in torch.randint(0, 4, (50,), generator=generator)]
    assert answer_classes(names) == reference_ranking.classes(names) != reference_ranking.classes(names[::-1])
    labels, groups = correct.flatten(), torch.randint(-1, 4, (120,), generator=generator)
    lists = scores.flatten().tolist(), labels.tolist(), groups.tolist()
    assert auroc(scores.flatten(), labels).item() == pytest.approx(reference_ranking.auroc(*lists[:2]))
    found = grouped_auroc(scores.flatten(), labels, groups).item()
    assert found == pytest.approx(reference_ranking.grouped_auroc(*lists))
    assert found != pytest.approx(reference_ranking.auroc(*lists[:2]))  # control


def test_choices_reduce_to_each_other(generator):
    """One right answer that all agree on, or nothing to choose by."""
    classes = torch.randint(0, 3, (20, 6), generator=generator)
    correct = classes == 1
    constant = torch.full((20, 6), 0.3)
    torch.testing.assert_close(weighted_vote(classes, correct, constant), majority_vote(classes, correct))
    torch.testing.assert_close(best_of_n(constant, correct), random_choice(correct))
    lonely = torch.arange(6).expand(20, 6)  # nobody agrees: the heaviest vote is the best score
    weights = torch.rand(20, 6, generator=generator)
    torch.testing.assert_close(weighted_vote(lonely, correct, weights), best_of_n(weights, correct))
    torch.testing.assert_close(majority_vote(lonely, correct), random_choice(correct))
    with pytest.raises(AssertionError):  # control: those who agree outvote the best
        torch.testing.assert_close(weighted_vote(classes, correct, weights), best_of_n(weights, correct))
    scores, labels = torch.randn(20, generator=generator), torch.arange(20) % 3 == 0
    torch.testing.assert_close(grouped_auroc(scores, labels, torch.zeros(20).long()), auroc(scores, labels))


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_bootstrap_agrees_with_all_resamples(level):
    """Five questions have 5^5 resamples: the interval of many draws is that of all of them."""
    values = [0.0, 0.31, 0.45, 0.87, 2.0]
    generator = torch.Generator().manual_seed(1)
    found = bootstrap_interval(torch.tensor(values), generator=generator, level=level, resamples=4000)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(reference_ranking.bootstrap_quantiles(values, level), abs=0.03)
    wrong = reference_ranking.bootstrap_quantiles(values, level + 0.08)
    assert (found.low, found.high) != pytest.approx(wrong, abs=0.03)  # control


def test_a_paired_bootstrap_against_nothing_is_the_bootstrap():
    values = torch.arange(9.0)
    alone, paired, shifted = (
        function(*arguments, generator=torch.Generator().manual_seed(3), resamples=50)
        for function, arguments in (
            (bootstrap_interval, (values,)),
            (paired_bootstrap, (values, torch.zeros(9))),
            (paired_bootstrap, (values, values - 1)),
        )
    )
    assert paired == alone and shifted == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("budget", [5, 11, 40])
def test_splits_agree_with_their_words(generator, budget):
    """Longest first, as many rows as fit; with pairs, a demonstration beside each of its traces."""
    lengths = torch.randint(1, 12, (15,), generator=generator)
    order = sorted(range(15), key=lambda n: (-int(lengths[n]), n))
    expected = []
    while order:
        count = max(1, budget // int(lengths[order[0]]))
        expected.append(order[:count])
        order = order[count:]
    assert [rows.tolist() for rows in token_budget_split(lengths, budget)] == expected
    assert [rows.tolist() for rows in token_budget_split(lengths, budget + 6)] != expected  # control
    rivals = torch.tensor([-1, -1, -1, *(n % 3 for n in range(11)), -1])
    batches = paired_budget_split(lengths, rivals, budget)
    for rows in batches:
        places = {row: place for place, row in enumerate(rows.tolist())}
        assert local_rivals(rivals, rows).tolist() == [places.get(int(rivals[row]), -1) for row in rows]
        fits = len(rows) * max(int(lengths[row]) for row in rows) <= budget
        assert fits or len(rows) == 2
    traces = [row for rows in batches for row in rows.tolist() if rivals[row] >= 0]
    assert sorted(traces) == list(range(3, 14))
    alone = paired_budget_split(lengths, torch.full((15,), -1), budget)
    assert [rows.tolist() for rows in alone] == expected  # without pairs, the other split


def test_labels_agree_with_their_words():
    answers, theirs = ["1", "2", None, "3"], ["1", "1", "1", "3"]
    assert AnswerAgreement()(answers, theirs, str.__eq__).tolist() == [
        a == b for a, b in zip(answers, theirs, strict=True)
    ]
    never = AnswerAgreement()(answers, theirs, lambda a, b: False)  # where no answer agrees, only experts are positive
    assert torch.equal(never, ExpertsOnly()(answers, theirs, str.__eq__))
    assert math.isclose(float(AnswerAgreement()(answers, theirs, lambda a, b: True).sum()), 3)
