"""Reference of localisation with loops over tokens and characters."""

from itertools import pairwise, permutations, product

import numpy as np


def largest_drop(scores, grid, baseline=0.0):
    columns = list(np.flatnonzero(grid))
    values = [scores[t] for t in columns]
    if len(set(values)) <= 1:
        return -1
    drops = [before - value for before, value in zip([baseline, *values], values, strict=False)]
    best = max(range(len(drops)), key=drops.__getitem__)
    return columns[best] if drops[best] > 0 else -1


def targets(offsets, mask, span, every, step_ends):
    """Columns that hit at token, interval and step level."""
    characters = set(range(span[0], max(span[1], span[0] + 1)))
    columns = list(np.flatnonzero(mask))
    token = {t for t in columns if characters & set(range(offsets[t, 0], offsets[t, 1]))}
    interval_of = {t: i // every for i, t in enumerate(columns)}
    step_of = {t: sum(bool(step_ends[u]) for u in columns if u < t) for t in columns}
    return [token] + [{t for t in columns if of[t] in {of[u] for u in token}} for of in (interval_of, step_of)]


def near(target, segments, within):
    """Columns whose segment is at most so many away from one that the target touches."""
    touched = {s for s, hit in zip(segments, target, strict=True) if hit and s >= 0}
    return {t for t, s in enumerate(segments) if s >= 0 and any(abs(s - other) <= within for other in touched)}


def drops(scores, grid, baseline=0.0):
    values = {t: scores[t] for t in np.flatnonzero(grid)}
    return dict(zip(values, -np.diff([baseline, *values.values()]), strict=True))


def orders(scores):
    """All rankings of the units that a score allows, best first; -inf is not ranked."""
    levels = sorted({s for s in scores if s > -np.inf}, reverse=True)
    groups = [permutations([k for k, s in enumerate(scores) if s == level]) for level in levels]
    for choice in product(*groups):
        yield [k for group in choice for k in group]


def ranked_figures(scores, relevant):
    """Reciprocal rank and average precision, averaged over all orders of the ties."""
    ranks, precisions = [], []
    for order in orders(scores):
        found = [place for place, k in enumerate(order, 1) if relevant[k]]
        ranks.append(1 / found[0] if found else 0.0)
        shares = [count / place for count, place in enumerate(found, 1)]
        precisions.append(sum(shares) / max(1, sum(relevant)))
    return np.mean(ranks), np.mean(precisions)


def first_below(scores, threshold):
    return next((k for k, score in enumerate(scores) if score < threshold), -1)


def f1_of(solutions, labels, threshold):
    """ProcessBench's F1 of one threshold: accuracies by counting, then their harmonic mean."""
    accuracies = []
    for side in (True, False):
        right = [first_below(s, threshold) == k for s, k in zip(solutions, labels, strict=True) if (k >= 0) == side]
        accuracies.append(np.mean(right) if right else np.nan)
    first, second = accuracies
    return 2 * first * second / (first + second) if first + second else 0.0


def best_f1(solutions, labels):
    """Over a threshold between any two neighbouring scores, and outside of all."""
    scores = sorted({score for solution in solutions for score in solution})
    tried = [scores[0] - 1, *((a + b) / 2 for a, b in pairwise(scores)), scores[-1] + 1]
    return max(f1_of(solutions, labels, threshold) for threshold in tried)
