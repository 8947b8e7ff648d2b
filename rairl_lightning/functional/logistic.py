"""A small logistic regression, for probing what a few numbers already tell; not a part of any model."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape

_FAR = 4.0  # standard deviations beyond which a feature is clipped: one odd trace must not set the scale
_HALVINGS = 8


def ridge_logistic(features_MF: Tensor, labels_M: Tensor, ridge: float = 1.0, steps: int = 12) -> Tensor:
    """Coefficients of a logistic regression whose classes weigh the same, by Newton's method with halved steps.

    Minimises ``Σ_i w_i softplus(-y_i (x_i·β + c)) + ½ ridge |β|²`` with ``y = ±1`` and weights that add up to M/2 in
    each class. Not in the paper.

    Args:
        features_MF: ``[M, F]``, standardised.
        labels_M: ``[M]`` bool.
        ridge: > 0, in traces.
        steps: most Newton steps, >= 1; it stops earlier where nothing improves.

    Returns:
        ``[F + 1]`` float64: β, then c.

    Raises:
        ConfigError: ``ridge`` or ``steps`` is out of range.
        DataError: a class is absent.

    >>> ridge_logistic(torch.tensor([[-1.0], [1.0]]), torch.tensor([False, True])).round(decimals=3)
    tensor([0.6750, 0.0000], dtype=torch.float64)
    """
    check_number("ridge", ridge, above=0)
    check_number("steps", steps, at_least=1)
    if bool(labels_M.all()) or not bool(labels_M.any()):
        raise DataError("There is one class only.", expected="positives and negatives", got=f"{len(labels_M)} alike")
    ones = features_MF.new_ones(len(features_MF), 1)
    design = torch.cat([features_MF, ones], dim=1).double()
    signs, share = labels_M.double() * 2 - 1, labels_M.double().mean()
    weights = 0.5 / torch.where(labels_M, share, 1 - share)
    penalty = torch.cat([design.new_full((design.shape[1] - 1,), ridge), design.new_zeros(1)])

    def objective(beta: Tensor) -> float:
        losses = weights * F.softplus(-signs * (design @ beta))
        return float(losses.sum(dim=0) + (penalty * beta.square()).sum(dim=0) / 2)

    beta = design.new_zeros(design.shape[1])
    best = objective(beta)
    for _ in range(steps):
        missed = torch.sigmoid(-signs * (design @ beta))
        gradient = penalty * beta - design.T @ (weights * signs * missed)
        curvature = (weights * missed * (1 - missed)).clamp(min=1e-9)  # keeps the constant's row invertible
        hessian = design.T @ (design * curvature.unsqueeze(1)) + torch.diag(penalty)
        step = torch.linalg.solve(hessian, gradient)
        trials = ((beta - step * 0.5**halving) for halving in range(_HALVINGS))
        better = next(((trial, value) for trial in trials if (value := objective(trial)) < best - 1e-9), None)
        if better is None:
            break
        beta, best = better
    return beta


def logistic_scores(features_MF: Tensor, labels_M: Tensor, folds_M: Tensor, ridge: float = 1.0) -> Tensor:
    """Score each row by a :func:`ridge_logistic` that was fitted without its fold, ``[M]`` float64.

    Features are standardised by what the fit has seen and clipped at four standard deviations; constant ones count
    nothing.

    Args:
        features_MF: ``[M, F]``, in any units.
        labels_M: ``[M]`` bool; outside of each fold both classes are there.
        folds_M: ``[M]`` int64; rows that depend on each other share a fold.
        ridge: > 0, in traces.

    Raises:
        DataError: the shapes differ, or a class is absent outside of a fold.
    """
    check_same_shape(labels=labels_M, folds=folds_M)
    scores_M = torch.zeros(len(labels_M), dtype=torch.float64)
    for fold in folds_M.unique():
        held = folds_M == fold
        seen = features_MF[~held].double()
        centre, spread = seen.mean(dim=0), seen.std(dim=0, unbiased=False)
        scale = torch.where(spread > 0, 1 / spread, 0.0)
        standard = ((features_MF.double() - centre) * scale).clamp(-_FAR, _FAR)
        beta = ridge_logistic(standard[~held], labels_M[~held], ridge)
        scores_M[held] = standard[held] @ beta[:-1] + beta[-1]
    return scores_M
