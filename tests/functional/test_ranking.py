import math
from fractions import Fraction

import pytest
import reference_ranking as reference
import torch
from sklearn.metrics import roc_auc_score

from rairl_lightning.errors import DataError
from rairl_lightning.functional import (
    answer_classes,
    auroc,
    best_index,
    best_of_n,
    grouped_auroc,
    grouped_wins,
    oracle,
    pass_at_k,
    random_choice,
    resampled_auroc,
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


def test_the_choice_does_not_depend_on_the_order_of_samples(case, generator):
    scores, _, correct = case
    order = torch.randperm(6, generator=generator)
    for n in (1, 2, 6):
        torch.testing.assert_close(best_of_n(scores[:, order], correct[:, order], n), best_of_n(scores, correct, n))


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


def test_pass_at_k_is_the_ratio_of_integers():
    """1 - C(n-c, k) / C(n, k), with exact integers."""
    for n, k in ((16, 8), (64, 2), (200, 100)):
        expected = [float(1 - Fraction(math.comb(n - c, k), math.comb(n, k))) for c in range(n + 1)]
        assert pass_at_k(n, torch.arange(n + 1), k).tolist() == pytest.approx(expected, abs=1e-12)
        wrong = [float(1 - Fraction(math.comb(n - c, k - 1), math.comb(n, k - 1))) for c in range(n + 1)]
        assert pass_at_k(n, torch.arange(n + 1), k).tolist() != pytest.approx(wrong, abs=1e-12)  # control


def test_areas_are_scikit_learns(generator):
    scores = torch.randint(0, 9, (200,), generator=generator).double()
    labels = torch.rand(200, generator=generator) < scores / 12
    expected = roc_auc_score(labels.numpy(), scores.numpy())
    assert auroc(scores, labels).item() == pytest.approx(expected, abs=1e-12)
    assert auroc(scores, ~labels).item() != pytest.approx(expected, abs=1e-12)  # control
    infinite = scores.masked_fill(scores == 0, -torch.inf)
    assert auroc(infinite, labels).item() == pytest.approx(expected, abs=1e-12), "the last rank, whatever it is called"


def test_wins_agree_with_the_loop(generator):
    scores = torch.randint(0, 4, (60,), generator=generator).double()
    scores[::7] = -torch.inf
    labels = torch.rand(60, generator=generator) < 0.4
    groups = torch.randint(-1, 9, (60,), generator=generator) * 5 % 23
    wins, pairs = grouped_wins(scores, labels, groups)
    expected = reference.wins(scores.tolist(), labels.tolist(), groups.tolist())
    assert list(zip(wins.tolist(), pairs.tolist(), strict=True)) == expected
    assert list(zip(pairs.tolist(), wins.tolist(), strict=True)) != expected  # control
    assert len(grouped_wins(scores[:0], labels[:0], groups[:0])[0]) == 0


def test_wins_take_no_square_of_the_traces():
    """20,000 traces: all pairs at once would be 400 million."""
    count = 20_000
    scores = torch.arange(count).double() % 97
    wins, pairs = grouped_wins(scores, torch.arange(count) % 3 == 0, torch.arange(count) // 2)
    assert len(wins) == count // 2 and (pairs <= 1).all() and (wins <= pairs).all()


def test_resampled_areas_agree_with_repeated_traces(generator):
    questions = torch.randint(0, 6, (40,), generator=generator)
    scores = torch.randint(0, 5, (40,), generator=generator).double()
    labels = torch.rand(40, generator=generator) < 0.5
    counts = torch.randint(0, 4, (7, 6), generator=generator)
    ours = resampled_auroc(scores, labels, counts, questions).tolist()
    expected = []
    for row in counts:
        times = row[questions].tolist()
        expected.append(reference.auroc(*(reference.drawn(v.tolist(), times) for v in (scores, labels))))
    assert ours == pytest.approx(expected)
    assert ours != pytest.approx([reference.auroc(scores.tolist(), labels.tolist())] * 7)  # control
    one_class = resampled_auroc(scores, torch.ones_like(labels), counts, questions)
    assert one_class.isnan().all(), "nothing to rank"
