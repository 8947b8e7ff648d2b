import pytest
import reference_ranking as reference
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.functional import (
    answer_classes,
    auroc,
    best_index,
    best_of_n,
    grouped_auroc,
    majority_vote,
    oracle,
    pass_at_k,
    random_choice,
    weighted_vote,
)


@pytest.fixture
def case(generator):
    """Few distinct scores, so that ties are common; an answer is right or wrong as a whole."""
    scores = torch.randint(0, 4, (30, 6), generator=generator).double()
    classes = torch.randint(-1, 4, (30, 6), generator=generator)
    return scores, classes, classes == 2


def test_pass_at_k_agrees_with_enumeration():
    for n in (1, 2, 5, 9):
        for k in range(1, n + 1):
            ours = pass_at_k(n, torch.arange(n + 1), k)
            assert ours.tolist() == pytest.approx(
                [float(reference.pass_at_k(n, c, k)) for c in range(n + 1)], abs=1e-14
            )
    assert pass_at_k(5, 2, 2).item() != pytest.approx(float(reference.pass_at_k(5, 2, 3)), abs=1e-14)  # control


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not():
    """Σ_c Binomial(c; n, p) pass@k(c) = 1 - (1 - p)^k."""
    n, k, p = 8, 3, 0.3
    c = torch.arange(n + 1)
    probability = torch.distributions.Binomial(n, torch.tensor(p).double()).log_prob(c.double()).exp()
    exact = 1 - (1 - p) ** k
    assert (probability * pass_at_k(n, c, k)).sum().item() == pytest.approx(exact, abs=1e-6)
    plug_in = 1 - (1 - c / n) ** k
    assert (probability * plug_in).sum().item() != pytest.approx(exact, abs=1e-6)  # control


def test_pass_at_k_is_stable_for_many_samples():
    assert pass_at_k(100_000, 1, 1).item() == pytest.approx(1e-5, rel=1e-12)
    assert pass_at_k(100_000, 50_000, 50_001).item() == 1.0
    assert 0 < pass_at_k(100_000, 50, 1_000).item() < 1


def test_pass_at_k_refuses_k_above_n():
    with pytest.raises(DataError, match="at least k"):
        pass_at_k(4, 1, 5)
    with pytest.raises(DataError, match="impossible"):
        pass_at_k(4, 5, 1)


@pytest.mark.parametrize("n", range(1, 7))
def test_best_of_n_agrees_with_enumeration(case, n):
    scores, _, correct = case
    expected = [reference.best_of_n(s, c, n) for s, c in zip(scores.tolist(), correct.tolist(), strict=True)]
    assert best_of_n(scores, correct, n).tolist() == pytest.approx(expected)
    first = correct.gather(1, best_index(scores)[:, None])[:, 0].double()
    assert first.tolist() != pytest.approx(expected)  # control: ties broken by position


def test_best_of_n_reductions(case):
    scores, _, correct = case
    torch.testing.assert_close(best_of_n(scores, correct, 1), random_choice(correct))
    torch.testing.assert_close(best_of_n(torch.zeros_like(scores), correct), random_choice(correct))
    torch.testing.assert_close(best_of_n(correct.double(), correct), oracle(correct))
    for k in (1, 3, 6):  # an oracle's best of k is pass@k
        torch.testing.assert_close(best_of_n(correct.double(), correct, k), pass_at_k(6, correct.sum(1), k))


def test_votes_agree_with_enumeration(case):
    scores, classes, correct = case
    named = [[None if k < 0 else str(k) for k in row] for row in classes.tolist()]
    for weights, ours in (
        (scores + 0.1, weighted_vote(classes, correct, scores + 0.1)),
        (torch.ones_like(scores), majority_vote(classes, correct)),
    ):
        rows = zip(named, correct.tolist(), weights.tolist(), strict=True)
        assert ours.tolist() == pytest.approx([reference.vote(*row) for row in rows])
    votes_of_none = classes.masked_fill(classes < 0, 9)
    assert majority_vote(votes_of_none, correct).tolist() != majority_vote(classes, correct).tolist()  # control


def test_no_rule_depends_on_the_order_of_samples(case, generator):
    scores, classes, correct = case
    order = torch.randperm(6, generator=generator)
    shuffled = scores[:, order], classes[:, order], correct[:, order]
    for rule in (
        lambda s, _, c: best_of_n(s, c),
        lambda s, k, c: weighted_vote(k, c, s * 0.1),
        lambda _, k, c: majority_vote(k, c),
    ):
        torch.testing.assert_close(rule(*shuffled), rule(*case))


def test_tied_sums_stay_tied_in_floating_point():
    classes = torch.tensor([[0, 0, 0, 1]])
    for dtype in (torch.float32, torch.float64):
        weights = torch.tensor([[0.1, 0.2, 0.3, 0.6]], dtype=dtype)  # 0.1 + 0.2 + 0.3 is 0.6 but for rounding
        assert weighted_vote(classes, classes == 0, weights).item() == 0.5
        weights[0, 3] += 1e-4
        assert weighted_vote(classes, classes == 0, weights).item() == 0.0  # control


def test_nobody_votes():
    assert majority_vote(torch.full((1, 3), -1), torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_negative_votes_are_refused():
    with pytest.raises(DataError, match="sigmoid"):
        weighted_vote(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1).bool(), torch.tensor([[-1.0]]))


def test_answers_are_grouped_by_agreement():
    def same_number(a, b):
        return float(a) == float(b)

    assert answer_classes(["5", None, "5.0", "7"], same_number) == [0, -1, 0, 1]
    assert answer_classes(["5", None, "5.0", "7"]) == [0, -1, 1, 2]


def test_auroc_agrees_with_all_pairs(generator):
    scores = torch.randint(0, 6, (60,), generator=generator).double()
    labels = torch.rand(60, generator=generator) < 0.4
    assert auroc(scores, labels).item() == pytest.approx(reference.auroc(scores.tolist(), labels.tolist()))
    assert auroc(-scores, labels).item() == pytest.approx(1 - auroc(scores, labels).item())
    assert auroc(scores, torch.ones_like(labels)).isnan()


def test_nan_scores_are_refused():
    with pytest.raises(DataError, match="NaN"):
        best_of_n(torch.tensor([[float("nan")]]), torch.tensor([[True]]))


def test_grouped_auroc_is_the_pairwise_rate_within_groups():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (40,), generator=generator).double()
    labels = torch.rand(40, generator=generator) < 0.4
    groups = torch.randint(-1, 4, (40,), generator=generator)
    wins = [
        float(scores[i] > scores[j]) + 0.5 * float(scores[i] == scores[j])
        for i in range(40)
        for j in range(40)
        if labels[i] and not labels[j] and groups[i] == groups[j] >= 0
    ]
    assert grouped_auroc(scores, labels, groups).item() == pytest.approx(sum(wins) / len(wins))
    one = torch.zeros(40, dtype=torch.int64)
    assert grouped_auroc(scores, labels, one).item() == pytest.approx(auroc(scores, labels).item())
    assert grouped_auroc(scores, labels, one - 1).isnan(), "nothing to rank"
