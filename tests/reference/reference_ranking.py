"""Reference of the choice rules by enumeration: every subset, every tied winner."""

from collections import defaultdict
from fractions import Fraction
from itertools import combinations, product

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


def grouped_auroc(scores, labels, groups):
    """The same over the pairs within a group; a negative number is no group."""
    rows = list(zip(scores, labels, groups, strict=True))
    pairs = [(p, q) for p, positive, a in rows if positive for q, other, b in rows if not other and a == b and a >= 0]
    return np.mean([(p > q) + 0.5 * (p == q) for p, q in pairs])


def classes(answers):
    """The place of an answer's first appearance among the distinct ones; -1 for none."""
    distinct = list(dict.fromkeys(answer for answer in answers if answer is not None))
    return [-1 if answer is None else distinct.index(answer) for answer in answers]


def bootstrap_quantiles(values, level):
    """Lower and upper quantile of the mean over all B^B resamples, each as likely."""
    means = np.sort([np.mean(resample) for resample in product(values, repeat=len(values))])
    return [np.quantile(means, (1 + sign * level) / 2, method="inverted_cdf") for sign in (-1, 1)]


def vote_of_n(answers, correct, weights, n):
    """Mean of :func:`vote` over all subsets of n."""
    rows = list(zip(answers, correct, weights, strict=True))
    return np.mean([vote(*zip(*subset, strict=True)) for subset in combinations(rows, n)])


def voters(answers, weights):
    """Who gave one of the heaviest answers."""
    totals = defaultdict(Fraction)
    for answer, weight in zip(answers, weights, strict=True):
        totals[answer] += Fraction(weight)
    totals.pop(None, None)
    return [answer in totals and totals[answer] == max(totals.values()) for answer in answers]


def wins(scores, labels, groups):
    """``(pairs won by the positive, pairs)`` of each group, smallest number first."""
    out = []
    for group in sorted({g for g in groups if g >= 0}):
        rows = [(score, label) for score, label, g in zip(scores, labels, groups, strict=True) if g == group]
        pairs = [(p, q) for p, positive in rows if positive for q, other in rows if not other]
        out.append((sum((p > q) + 0.5 * (p == q) for p, q in pairs), len(pairs)))
    return out


def drawn(values, counts):
    """The values as a resample holds them: each as often as its question was drawn."""
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
