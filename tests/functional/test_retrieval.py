import numpy as np
import pytest
import reference_localisation as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from rairl_lightning.errors import DataError
from rairl_lightning.functional import average_precision, greatest_of_units, reciprocal_rank


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), st.booleans()), min_size=1, max_size=6))
def test_ties_agree_with_all_their_orders(units):
    scores, relevant = (list(column) for column in zip(*units, strict=True))
    ours = [f(torch.tensor([scores]), torch.tensor([relevant])).item() for f in (reciprocal_rank, average_precision)]
    assert ours == pytest.approx(list(reference.ranked_figures(scores, relevant)))


def test_ranked_units_agree_with_the_orders_and_the_library(generator):
    scores = torch.randint(0, 3, (50, 6), generator=generator).double()
    relevant = torch.rand(50, 6, generator=generator) < 0.4
    expected = np.array(
        [reference.ranked_figures(s, r) for s, r in zip(scores.tolist(), relevant.tolist(), strict=True)]
    )
    ours = torch.stack([reciprocal_rank(scores, relevant), average_precision(scores, relevant)], 1)
    assert np.allclose(ours, expected)
    broken = scores - torch.arange(6) * 1e-6  # control: the first of a tie is not all of them
    assert not np.allclose(reciprocal_rank(broken, relevant), expected[:, 0])
    distinct, some = torch.rand(50, 6, generator=generator), relevant.any(1)
    library = [average_precision_score(r, s) for s, r in zip(distinct[some], relevant[some], strict=True)]
    assert np.allclose(average_precision(distinct, relevant)[some], library)


def test_hand_worked():
    relevant = torch.tensor([[False, True, False, True]])
    ranked = torch.tensor([[4.0, 3.0, 2.0, 1.0]])  # relevant at ranks 2 and 4
    assert reciprocal_rank(ranked, relevant).item() == 1 / 2
    assert average_precision(ranked, relevant).item() == (1 / 2 + 2 / 4) / 2
    tied = torch.tensor(
        [[1.0, 1.0, 0.0, -torch.inf]]
    )  # first or second, each half of the time; the other is not ranked
    assert reciprocal_rank(tied, relevant).item() == pytest.approx((1 + 1 / 2) / 2)
    assert average_precision(tied, relevant).item() == pytest.approx((1 + 1 / 2) / 2 / 2)


def test_what_ties_throughout_is_a_random_order(generator):
    """One relevant unit of n: its rank is uniform, so the mean is the harmonic number over n."""
    relevant = torch.zeros(1, 7, dtype=torch.bool)
    relevant[0, 3] = True
    expected = sum(1 / rank for rank in range(1, 8)) / 7
    flat = torch.zeros(1, 7)
    assert reciprocal_rank(flat, relevant).item() == pytest.approx(expected)
    assert average_precision(flat, relevant).item() == pytest.approx(expected)
    draws = torch.rand(4000, 7, generator=generator)
    relevant = (torch.arange(7) % 3 == 0).expand(4000, 7)  # three of seven
    for figure in (reciprocal_rank, average_precision):
        assert figure(draws, relevant).mean().item() == pytest.approx(figure(flat, relevant[:1]).item(), abs=0.02)
        assert figure(flat, relevant[:1]).item() != pytest.approx(3 / 7, abs=0.02)  # control: no mere share


def test_the_order_of_units_and_rows_does_not_matter(generator):
    scores = torch.randint(0, 4, (8, 9), generator=generator).double()
    relevant = torch.rand(8, 9, generator=generator) < 0.3
    columns, rows = torch.randperm(9, generator=generator), torch.randperm(8, generator=generator)
    for figure in (reciprocal_rank, average_precision):
        whole = figure(scores, relevant)
        torch.testing.assert_close(figure(scores[:, columns], relevant[:, columns]), whole)
        torch.testing.assert_close(figure(scores[rows], relevant[rows]), whole[rows])
        torch.testing.assert_close(
            torch.cat([figure(scores[:3], relevant[:3]), figure(scores[3:], relevant[3:])]), whole
        )


def test_nothing_ranked_or_relevant_is_nothing():
    for figure in (reciprocal_rank, average_precision):
        assert figure(torch.full((1, 3), -torch.inf), torch.ones(1, 3, dtype=torch.bool)).tolist() == [0]
        assert figure(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [0]
        assert figure(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool)).shape == (0,)
        assert figure(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]
        with pytest.raises(DataError, match="differ in shape"):
            figure(torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.bool))


def test_long_traces_stay_exact():
    flat, relevant = torch.zeros(1, 2000), torch.zeros(1, 2000, dtype=torch.bool)
    relevant[0, 7] = True
    assert reciprocal_rank(flat, relevant).item() == pytest.approx((1 / np.arange(1, 2001)).sum() / 2000)


def test_units_hold_their_greatest(generator):
    values = torch.randn(5, 12, generator=generator)
    units = (torch.arange(12) // 5).expand(5, 12).clone()
    units[0, :3] = -1
    units[1, 6:] = -1
    ours = greatest_of_units(values, units).numpy()
    for n in range(5):
        for k in range(3):
            inside = values[n, units[n] == k].numpy()
            assert ours[n, k] == (inside.max() if len(inside) else -np.inf)
    assert not np.allclose(ours[2:], greatest_of_units(-values, units)[2:])  # control
    assert greatest_of_units(values > 0, units).dtype == torch.bool
    assert greatest_of_units(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.int64)).shape == (0, 0)
