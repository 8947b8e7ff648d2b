"""Reference of localisation with loops over tokens and characters."""

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
