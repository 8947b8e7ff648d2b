"""Float64 / plain-loop reference of the policy's objectives and their gradients, derived by hand from the papers.

Everything is a function of one trace at a time, given as lists of its completion tokens: no masks, no padding.
"""

import numpy as np


def weight(normalisation, lengths, n, max_tokens):
    """Of one token of trace n: 1/(N L_n) (GRPO), 1/sum L (DAPO), 1/(N L_max) (Dr. GRPO)."""
    count = len(lengths)
    return {"grpo": 1 / (count * lengths[n]), "dapo": 1 / sum(lengths), "dr_grpo": 1 / (count * max_tokens)}[
        normalisation
    ]


def kl(estimate, policy, reference):
    """Value and derivative with respect to log pi of Schulman's estimators of KL(pi || pi_ref)."""
    gap = policy - reference
    if estimate == "k1":
        return gap, 1.0
    if estimate == "k2":
        return gap**2 / 2, gap
    return np.exp(-gap) - 1 + gap, 1 - np.exp(-gap)


def _bounded(ratio, advantage, low, high, dual):
    """PPO's minimum of two products, by cases: loss, d loss / d log ratio, whether the bound holds."""
    if advantage >= 0 and ratio > 1 + high:
        return -(1 + high) * advantage, 0.0, True
    if advantage < 0 and ratio < 1 - low:
        return -(1 - low) * advantage, 0.0, True
    if advantage < 0 and dual is not None and ratio > dual:
        return -dual * advantage, 0.0, True
    return -ratio * advantage, -ratio * advantage, False


def surrogate(kind, policy, old, advantages, low, high, dual=None):
    """Of one trace: loss, d loss_t / d log pi_t, ratio and clip flag of every token."""
    ratios = np.exp(np.array(policy) - np.array(old))
    if kind == "cispo":  # Eqs. (4), (5) of arXiv 2506.13585: the clipped weight is a constant
        weights = np.clip(ratios, 1 - low, 1 + high)
        return -weights * advantages * policy, -weights * advantages, ratios, weights != ratios
    if kind == "gspo":  # §4.1 and §4.3 of arXiv 2507.18071: one ratio, the geometric mean
        ratios = np.full(len(ratios), np.prod(ratios) ** (1 / len(ratios)))
    terms = [_bounded(r, a, low, high, dual) for r, a in zip(ratios, advantages, strict=True)]
    loss, slope, clipped = (np.array(column) for column in zip(*terms, strict=True))
    return loss, slope, ratios, clipped


def objective(traces, kind, low, high, dual, normalisation, max_tokens, estimate, beta):
    """Loss, gradients of each trace and the round's statistics; a trace is (policy, old, reference, advantages)."""
    lengths = [len(trace[0]) for trace in traces]
    totals = dict.fromkeys(("weight", "surrogate", "ratio", "clip_fraction", "kl"), 0.0)
    gradients = []
    for n, (policy, old, reference, advantages) in enumerate(traces):
        w = weight(normalisation, lengths, n, max_tokens)
        loss, slope, ratios, clipped = surrogate(kind, policy, old, advantages, low, high, dual)
        divergence, divergence_slope = kl(estimate, np.array(policy), np.array(reference))
        gradients.append(w * (slope + beta * divergence_slope))
        columns = (np.ones(lengths[n]), loss, ratios, clipped, divergence)
        for name, column in zip(totals, columns, strict=True):
            totals[name] += w * np.sum(column)
    return totals["surrogate"] + beta * totals["kl"], gradients, totals


def softmax(logits):
    weights = np.exp(logits - np.max(logits))
    return weights / weights.sum()


def exact_kl(logits, reference, backwards=False):
    """KL(pi || pi_ref), or KL(pi_ref || pi), of two categorical distributions."""
    p, q = softmax(logits), softmax(reference)
    return float(np.sum(q * np.log(q / p)) if backwards else np.sum(p * np.log(p / q)))


def differences(function, point, step=1e-6):
    """Central differences of a scalar function, coordinate by coordinate."""
    point, out = np.array(point, dtype=np.float64), np.zeros(np.shape(point))
    for index in np.ndindex(out.shape):
        values = []
        for move in (step, -step):
            moved = point.copy()
            moved[index] += move
            values.append(function(moved))
        out[index] = (values[0] - values[1]) / (2 * step)
    return out


def truncated_weight(trainer, sampler, cap):
    """min(pi_trainer / pi_sampler, C)."""
    return min(np.exp(trainer - sampler), cap)


def gap(trainer, sampler):
    """Of the tokens of a round: mean and largest size, k3 of KL(sampler || trainer), mean ratio."""
    gaps = np.array(trainer) - np.array(sampler)
    return {
        "gap_mean": np.mean(np.abs(gaps)),
        "gap_max": np.max(np.abs(gaps)),
        "gap_kl": np.mean(np.exp(gaps) - 1 - gaps),
        "gap_ratio": np.mean(np.exp(gaps)),
    }
