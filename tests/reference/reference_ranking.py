"""Reference of the choice rules by enumeration: every subset, every tied winner."""

from collections import defaultdict
from fractions import Fraction
from itertools import combinations

import numpy as np


def pass_at_k(n, c, k):
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    return Fraction(sum(any(subset) for subset in subsets), len(subsets))


def best_of_n(scores, correct, n):
    """Mean over all subsets of n of the mean over the subset's tied best."""
    values = []
    for subset in combinations(range(len(scores)), n):
        best = max(scores[i] for i in subset)
        values.append(np.mean([correct[i] for i in subset if scores[i] == best]))
    return np.mean(values)


def vote(answers, correct, weights):
    """The heaviest answer; the mean over tied answers; nobody votes = wrong."""
    totals, right = defaultdict(Fraction), {}
    for answer, is_right, weight in zip(answers, correct, weights, strict=True):
        if answer is not None:
            totals[answer] += Fraction(weight)
            right[answer] = is_right
    if not totals:
        return 0.0
    best = max(totals.values())
    return np.mean([right[answer] for answer, total in totals.items() if total == best])


def auroc(scores, labels):
    rows = list(zip(scores, labels, strict=True))
    pairs = [(p, q) for p, positive in rows if positive for q, other in rows if not other]
    return np.mean([(p > q) + 0.5 * (p == q) for p, q in pairs])
