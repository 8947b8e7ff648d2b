"""Float64 / plain-loop reference of the surrogates, from their equations."""

import numpy as np


def dual_clipped(ratio, advantage, low, high, dual):
    inner = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    return -(max(inner, dual * advantage) if advantage < 0 else inner)


def gspo(logprobs, old, advantages_N, mask, low, high):
    """mean_n -min(s A, clip(s) A), s = (pi(y) / pi_old(y))^(1/L): the sequence objective, one advantage a trace."""
    losses = []
    for n, advantage in enumerate(advantages_N):
        columns = np.flatnonzero(mask[n])
        ratio = np.exp(sum(logprobs[n, t] - old[n, t] for t in columns) / len(columns))
        losses.append(-min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage))
    return np.mean(losses)


def cispo_gradient(logprobs, old, advantages, low, high):
    """d/d(log pi) of -sg(clip(rho)) A log pi."""
    return -np.clip(np.exp(logprobs - old), 1 - low, 1 + high) * advantages
