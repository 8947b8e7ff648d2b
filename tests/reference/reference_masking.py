"""Float64 reference of reductions and poolings: plain lists of what counts."""

import numpy as np


def total(values):
    return sum(values)


def mean(values):
    return sum(values) / len(values) if len(values) else 0.0


def pooled(kind, values, lengths):
    """Of one trace: the rewards of its segments and their lengths to one number."""
    if not len(values):
        return 0.0
    return {
        "token weighted": sum(v * n for v, n in zip(values, lengths, strict=True)) / sum(lengths),
        "mean": mean(values),
        "last": values[-1],
        "minimum": sorted(values)[0],
        "product": np.log(np.prod([1 / (1 + np.exp(-v)) for v in values])),
    }[kind]


def reward(logit, temperature, clip):
    """clip(log D - log(1 - D), tempered)."""
    p = 1 / (1 + np.exp(-logit))
    return float(np.clip((np.log(p) - np.log(1 - p)) / temperature, -clip, clip))
