"""Reference of calibration: one trace at a time, one bin at a time, and a temperature by trying them all."""

import math

import numpy as np


def bin_of(probability, bins):
    return min(bins - 1, max(k for k in range(bins) if k / bins <= probability))


def reliability(probabilities, labels, bins):
    """``(traces, sum of probabilities, right)`` of each bin."""
    sums = np.zeros((bins, 3))
    for probability, label in zip(probabilities, labels, strict=True):
        sums[bin_of(probability, bins)] += (1, probability, label)
    return sums


def calibration_error(probabilities, labels, bins):
    members = [[] for _ in range(bins)]
    for probability, label in zip(probabilities, labels, strict=True):
        members[bin_of(probability, bins)].append((probability, label))
    gaps = [len(m) / len(labels) * abs(np.mean([p for p, _ in m]) - np.mean([y for _, y in m])) for m in members if m]
    return sum(gaps)


def likelihood(scores, labels, temperature):
    """Of the labels under σ(score / τ), as a logarithm."""
    signed = [score if label else -score for score, label in zip(scores, labels, strict=True)]
    return -sum(np.logaddexp(0, -score / temperature) for score in signed)


def temperature(scores, labels):
    """The likeliest on a fine grid."""
    grid = np.exp(np.linspace(math.log(1e-2), math.log(1e2), 4001))
    return grid[np.argmax([likelihood(scores, labels, t) for t in grid])]
