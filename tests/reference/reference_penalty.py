"""Float64 / plain-loop reference of the gradient penalties, on a causal network whose gradient is known by hand.

``d_t = tanh(c_t / 4) + e_t0²`` with ``c_t = Σ_{s<=t} w·e_s`` over all tokens, the prompt's too.
"""

import numpy as np


def logits(embeddings, weight):
    return np.tanh(np.cumsum(embeddings @ weight, axis=1) / 4) + embeddings[..., 0] ** 2


def score(embeddings, weight, grid):
    """Of one trace: the mean logit over its scored positions."""
    return np.mean(logits(embeddings[None], weight)[0][grid])


def squared_gradient(embeddings, weight, mask, grid):
    """Of one trace: sum over completion tokens j of |d score / d e_j|²."""
    slopes = (1 - np.tanh(np.cumsum(embeddings @ weight) / 4) ** 2) / 4
    total, points = 0.0, np.flatnonzero(grid)
    for j in np.flatnonzero(mask):
        gradient = sum(slopes[t] for t in points if t >= j) * weight / len(points)
        if grid[j]:
            gradient = gradient + np.eye(len(weight))[0] * 2 * embeddings[j, 0] / len(points)
        total += gradient @ gradient
    return total


def aligned(values, completion, target):
    """Of one pair: the partner's completion laid over the trace's, first token to first token; where both have one."""
    moved, both = np.zeros((len(target), values.shape[-1])), np.zeros(len(target), dtype=bool)
    for source, column in zip(np.flatnonzero(completion), np.flatnonzero(target), strict=False):
        moved[column], both[column] = values[source], True
    return moved, both


def r1(squares, labels, coef):
    """½ λ mean over positives."""
    return coef / 2 * np.mean([x for x, is_expert in zip(squares, labels, strict=True) if is_expert])


def unit_gradient(squares, coef):
    """λ mean (norm - 1)² over all traces."""
    return coef * np.mean([(np.sqrt(x) - 1) ** 2 for x in squares])
