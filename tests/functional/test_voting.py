"""Votes of all traces and of n of them, against every subset counted out."""

import math

import pytest
import reference_ranking as reference
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import majority_vote, subsets, weighted_vote, winning_votes
from rairl_lightning.functional.voting import SUBSETS


@pytest.fixture
def case(generator):
    """Few answers and few weights, so that ties are common; an answer is right or wrong as a whole."""
    weights = torch.randint(0, 4, (30, 6), generator=generator).double()
    classes = torch.randint(-1, 4, (30, 6), generator=generator)
    return weights, classes, classes == 2


def named(classes):
    return [[None if k < 0 else str(k) for k in row] for row in classes.tolist()]


def test_votes_agree_with_enumeration(case):
    scores, classes, correct = case
    for weights, ours in (
        (scores + 0.1, weighted_vote(classes, correct, scores + 0.1)),
        (torch.ones_like(scores), majority_vote(classes, correct)),
    ):
        rows = zip(named(classes), correct.tolist(), weights.tolist(), strict=True)
        assert ours.tolist() == pytest.approx([reference.vote(*row) for row in rows])
    votes_of_none = classes.masked_fill(classes < 0, 9)
    assert majority_vote(votes_of_none, correct).tolist() != majority_vote(classes, correct).tolist()  # control


@pytest.mark.parametrize("n", range(1, 7))
def test_votes_of_n_agree_with_enumeration(case, n):
    scores, classes, correct = case
    members = subsets(6, n)
    for weights, ours in (
        (scores + 0.1, weighted_vote(classes, correct, scores + 0.1, members)),
        (torch.ones_like(scores), majority_vote(classes, correct, members)),
    ):
        rows = list(zip(named(classes), correct.tolist(), weights.tolist(), strict=True))
        assert ours.tolist() == pytest.approx([reference.vote_of_n(*row, n) for row in rows])
        other = 5 if n == 6 else 6
        assert ours.tolist() != pytest.approx([reference.vote_of_n(*row, other) for row in rows])  # control


def test_winners_agree_with_the_loop(case):
    weights, classes, _ = case
    ours = winning_votes(classes, weights + 0.25)
    rows = zip(named(classes), (weights + 0.25).tolist(), strict=True)
    expected = [reference.voters(*row) for row in rows]
    assert ours[:, 0].tolist() == expected
    assert winning_votes(classes, torch.ones_like(weights))[:, 0].tolist() != expected  # control
    nobody = torch.zeros(1, 6, dtype=torch.bool)
    assert not winning_votes(classes, weights, nobody).any()


@pytest.mark.parametrize(("group", "n"), [(1, 1), (6, 2), (16, 4), (16, 16)])
def test_all_subsets_are_taken_where_they_are_few(group, n):
    members = subsets(group, n)
    assert len(members) == math.comb(group, n) == len(members.unique(dim=0)) <= SUBSETS
    assert (members.sum(dim=1) == n).all() and members.dtype == torch.bool
    assert (subsets(group, n, seed=1) == members).all(), "nothing is drawn"


def test_drawn_subsets_estimate_the_votes(generator):
    """Eight of sixteen are 12,870 subsets: two thousand are drawn, and are as good to within their error."""
    members = subsets(16, 8, seed=0)
    assert len(members) == SUBSETS and (members.sum(dim=1) == 8).all()
    assert not torch.equal(members, subsets(16, 8, seed=1)) and torch.equal(members, subsets(16, 8, seed=0))
    assert (members.double().mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / SUBSETS**0.5, "every trace is as likely"
    classes = torch.randint(-1, 3, (8, 16), generator=generator)
    weights, correct = torch.rand(8, 16, generator=generator), classes == 1
    every = torch.tensor([[bool(bits >> g & 1) for g in range(16)] for bits in range(2**16) if bits.bit_count() == 8])
    assert len(every) == math.comb(16, 8) == 12870
    exact, drawn = (weighted_vote(classes, correct, weights, rows) for rows in (every, members))
    assert not torch.allclose(drawn, exact, atol=1e-9), "drawn indeed"
    assert (drawn - exact).abs().max() < 4 * 0.5 / SUBSETS**0.5
    fewer = weighted_vote(classes, correct, weights, subsets(16, 2))
    assert (fewer - exact).abs().max() > 4 * 0.5 / SUBSETS**0.5  # control: the votes of two are other votes


def test_no_vote_depends_on_the_order_of_traces(case, generator):
    weights, classes, correct = case
    order = torch.randperm(6, generator=generator)
    members = subsets(6, 3)
    for rule in (
        lambda w, k, c: weighted_vote(k, c, w * 0.1, members),
        lambda _, k, c: majority_vote(k, c, members),
    ):
        torch.testing.assert_close(rule(weights[:, order], classes[:, order], correct[:, order]), rule(*case))


def test_tied_sums_stay_tied_in_floating_point():
    classes = torch.tensor([[0, 0, 0, 1]])
    for dtype in (torch.float32, torch.float64):
        weights = torch.tensor([[0.1, 0.2, 0.3, 0.6]], dtype=dtype)  # 0.1 + 0.2 + 0.3 is 0.6 but for rounding
        assert weighted_vote(classes, classes == 0, weights).item() == 0.5
        weights[0, 3] += 1e-4
        assert weighted_vote(classes, classes == 0, weights).item() == 0.0  # control


def test_nobody_votes():
    assert majority_vote(torch.full((1, 3), -1), torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0
    lonely = torch.tensor([[-1, -1, 0]])  # one of the three subsets of one votes, and is right
    assert majority_vote(lonely, lonely == 0, subsets(3, 1)).item() == pytest.approx(1 / 3)


def test_votes_without_weight_tie():
    """All rewards are missing: σ(-inf) = 0."""
    classes = torch.tensor([[0, 1, 1]])
    assert weighted_vote(classes, classes == 0, torch.zeros(1, 3)).item() == 0.5


def test_refusals():
    with pytest.raises(DataError, match="sigmoid"):
        weighted_vote(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1).bool(), torch.tensor([[-1.0]]))
    with pytest.raises(DataError, match="sigmoid"):
        winning_votes(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[float("nan")]]))
    for n in (0, 4):
        with pytest.raises(DataError, match="at least n"):
            subsets(3, n)
