import math

import numpy as np
import pytest
import reference_separation as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import auroc, bounded_auroc, clustered_variance, score_bound

SHIFT = 1.1902  # of two unit normals whose AUROC is 0.8


def sample(generator, count, shift=0.0, ties=False):
    labels = torch.arange(2 * count) < count
    scores = torch.randn(2 * count, generator=generator, dtype=torch.float64) + shift * labels
    return (scores * 2).round() if ties else scores, labels


@pytest.mark.parametrize("ties", [False, True])
def test_the_variance_is_the_references(generator, ties):
    scores, labels = sample(generator, 20, 0.7, ties)
    labels[5:9] = False
    clusters = torch.randint(9, (40,), generator=generator)
    rows = [scores[labels], scores[~labels], clusters[labels], clusters[~labels]]
    expected = reference.clustered_variance(*(one.tolist() for one in rows))
    assert clustered_variance(scores, labels, clusters) == pytest.approx(expected, rel=1e-12)
    assert clustered_variance(scores, labels, torch.arange(40)) != pytest.approx(expected, rel=1e-3)  # control


def test_without_clusters_it_is_delongs(generator):
    scores, labels = sample(generator, 30, 0.5)
    ours, theirs = reference.placements(scores[labels].tolist(), scores[~labels].tolist())
    expected = np.var(ours, ddof=1) / 30 + np.var(theirs, ddof=1) / 30
    assert clustered_variance(scores, labels, torch.arange(60)) == pytest.approx(expected, rel=1e-12)


def test_repeating_a_trace_proves_nothing(generator):
    scores, labels = sample(generator, 25, 1.0)
    clusters = torch.arange(50)
    once = bounded_auroc(scores, labels, clusters)
    scores, labels, clusters = (one.repeat_interleave(8) for one in (scores, labels, clusters))
    assert bounded_auroc(scores, labels, clusters) == pytest.approx(once)
    assert bounded_auroc(scores, labels, torch.arange(400)).low > once.low + 0.05  # control


@pytest.mark.parametrize(("area", "m", "n"), [(1.0, 16, 16), (0.9, 40, 200), (0.75, 64, 20)])
def test_the_score_bound_solves_its_equation(area, m, n):
    low = score_bound(area, m, n, 2.326)
    assert 0.5 < low < area
    assert low + 2.326 * math.sqrt(reference.hanley_mcneil(low, m, n)) == pytest.approx(area, abs=1e-9)
    assert low + 2.326 * math.sqrt(reference.hanley_mcneil(area, m, n)) != pytest.approx(area, abs=1e-3)  # control


def test_the_score_bound_where_nothing_is_shown():
    assert score_bound(0.55, 16, 16, 2.326) == 0.5
    assert score_bound(0.3, 16, 16, 2.326) == 0.3
    assert score_bound(1.0, 2, 2, 2.326) == 0.5


@pytest.mark.parametrize("count", [16, 64])
def test_the_bound_holds_as_often_as_it_says(generator, count):
    clusters, draws = torch.arange(2 * count), 400
    found = [bounded_auroc(*sample(generator, count, SHIFT), clusters) for _ in range(draws)]
    assert sum(one.low > 0.8 for one in found) <= 0.02 * draws, "1 % by construction"
    assert sum(one.auroc > 0.8 for one in found) > 0.3 * draws  # control: the point estimate is no bound
    assert np.mean([one.auroc for one in found]) == pytest.approx(0.8, abs=0.02)


def test_the_bound_holds_where_traces_of_a_prompt_are_alike(generator):
    def draw():
        scores, labels = sample(generator, 20, SHIFT)
        noise = 0.1 * torch.randn(160, generator=generator, dtype=torch.float64)
        return scores.repeat_interleave(4) + noise, labels.repeat_interleave(4)

    clusters, found = torch.arange(40).repeat_interleave(4), [draw() for _ in range(200)]
    assert sum(bounded_auroc(*one, clusters).low > 0.8 for one in found) <= 0.02 * 200
    assert sum(bounded_auroc(*one, torch.arange(160)).low > 0.8 for one in found) > 0.05 * 200  # control


def test_classes_that_do_not_overlap_are_not_certain():
    scores, labels = torch.arange(32.0), torch.arange(32) >= 16
    assert clustered_variance(scores, labels, torch.arange(32)) == 0
    area, low = bounded_auroc(scores, labels, torch.arange(32))
    assert area == 1 and 0.8 < low < 0.85


def test_it_is_the_auroc(generator):
    scores, labels = sample(generator, 15, 0.4, ties=True)
    assert bounded_auroc(scores, labels, torch.arange(30)).auroc == float(auroc(scores, labels))


def test_what_cannot_be_bounded():
    rows = torch.arange(4)
    assert all(math.isnan(value) for value in bounded_auroc(rows, rows >= 0, rows))
    assert bounded_auroc(rows, rows >= 2, torch.zeros(4, dtype=torch.int64)) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="level"):
        bounded_auroc(rows, rows >= 2, rows, level=0.3)
    with pytest.raises(DataError, match="shape"):
        bounded_auroc(rows, rows >= 2, rows[:2])
