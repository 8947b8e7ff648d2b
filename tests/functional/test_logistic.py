import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import auroc, logistic_scores, ridge_logistic


def sample(generator, count=120, features=5, weight=1.0):
    rows = torch.randn(count, features, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    return rows, weight * rows[:, 0] - weight * rows[:, 1] + noise > 0.6


@pytest.mark.parametrize("ridge", [0.1, 1.0, 20.0])
def test_the_coefficients_are_the_librarys(generator, ridge):
    rows, labels = sample(generator)
    model = LogisticRegression(C=1 / ridge, class_weight="balanced", tol=1e-10, max_iter=10_000)
    model.fit(rows.numpy(), labels.numpy())
    expected = torch.tensor([*model.coef_[0], model.intercept_[0]])
    torch.testing.assert_close(ridge_logistic(rows, labels, ridge), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ridge_logistic(rows, labels, 2 * ridge), expected, rtol=1e-4, atol=1e-5)  # control


def test_separable_and_constant_columns_are_survived():
    labels = torch.arange(20) >= 10
    rows = torch.stack([labels.double(), torch.zeros(20), labels.double() * 4], dim=1)
    beta = ridge_logistic(rows, labels, 1e-3)
    assert beta.isfinite().all() and beta[1] == 0 and beta[0] > 0


def test_a_row_is_scored_by_a_fit_that_has_not_seen_its_fold(generator):
    rows, labels = sample(generator, 60)
    folds = torch.arange(60) % 5
    before = logistic_scores(rows, labels, folds)
    changed = labels.clone()
    changed[folds == 2] = ~labels[folds == 2]
    after = logistic_scores(rows, changed, folds)
    assert torch.equal(before[folds == 2], after[folds == 2])
    assert not torch.allclose(before[folds != 2], after[folds != 2])  # control


def test_it_finds_what_is_there_in_any_units_and_nothing_else(generator):
    rows, labels = sample(generator, 300, weight=2.0)
    folds = torch.arange(300) % 5
    units = torch.tensor([1e-3, 1e4, 1.0, 1.0, 1.0])
    scores = logistic_scores(rows * units, labels, folds)
    torch.testing.assert_close(scores, logistic_scores(rows, labels, folds))
    assert auroc(scores, labels) > 0.9
    nothing = torch.randn(300, 30, generator=generator)
    assert 0.35 < auroc(logistic_scores(nothing, labels, folds), labels) < 0.65


def test_one_odd_row_does_not_set_the_scale(generator):
    rows, labels = sample(generator, 200, weight=2.0)
    rows[0, 0] = 1e9
    assert auroc(logistic_scores(rows, labels, torch.arange(200) % 5), labels) > 0.75


def test_no_gradient_and_no_randomness(generator):
    rows, labels = sample(generator)
    state = torch.get_rng_state()
    logistic_scores(rows, labels, torch.arange(120) % 5)
    assert torch.equal(state, torch.get_rng_state())


def test_refusals(generator):
    rows, labels = sample(generator, 10)
    with pytest.raises(DataError, match="one class"):
        ridge_logistic(rows, torch.ones(10, dtype=torch.bool))
    with pytest.raises(ConfigError, match="ridge"):
        ridge_logistic(rows, labels, 0.0)
    with pytest.raises(DataError, match="shape"):
        logistic_scores(rows, labels, torch.zeros(3, dtype=torch.int64))
