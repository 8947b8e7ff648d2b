"""Float64 / plain-loop reference of segments and of the two-head AIRL critic, from its equations."""

from itertools import pairwise

import numpy as np


def segments(grid, mask):
    """For each row the lists of columns of its segments, in order."""
    rows = []
    for n in range(len(mask)):
        parts, current = [], []
        for t in np.flatnonzero(mask[n]):
            current.append(t)
            if grid[n, t]:
                parts.append(current)
                current = []
        rows.append(parts)
    return rows


def segment_sum(values, grid, mask, mean=False):
    out = np.zeros(mask.shape)
    for n, parts in enumerate(segments(grid, mask)):
        for part in parts:
            out[n, part[-1]] = sum(values[n, t] for t in part) / (len(part) if mean else 1)
    return out


def segment_change(values, grid, mask):
    out = np.zeros(mask.shape)
    for n, parts in enumerate(segments(grid, mask)):
        for before, part in pairwise(parts):
            for t in part:
                out[n, t] = values[n, part[-1]] - values[n, before[-1]]
    return out


def shaping(potentials, grid, mask, gamma, terminal_zero=True):
    """gamma h(s_{k+1}) - h(s_k): s_k is read at the end of segment k - 1, s_0 at the prompt's last token."""
    out = np.zeros(mask.shape)
    for n, parts in enumerate(segments(grid, mask)):
        if not parts:
            continue
        states = [potentials[n, parts[0][0] - 1]] + [potentials[n, part[-1]] for part in parts]
        if terminal_zero:
            states[-1] = 0.0
        for k, part in enumerate(parts):
            out[n, part[-1]] = gamma * states[k + 1] - states[k]
    return out


def two_head_logits(g, h, logprobs, grid, mask, gamma, clip, floor, mean):
    floored = np.maximum(logprobs, floor) if floor is not None else logprobs
    shaped = shaping(h, grid, mask, gamma)
    if clip is not None:
        shaped = np.clip(shaped, -clip, clip)
    return np.where(grid, g + shaped - segment_sum(floored, grid, mask, mean), 0.0)
