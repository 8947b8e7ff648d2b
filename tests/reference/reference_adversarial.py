"""Float64 / plain-loop reference of the discriminator's other losses, from their equations."""

import numpy as np


def class_mean(loss_of, logits, labels, grid, share, per_trace):
    """p mean_pos l + (1 - p) mean_neg l, the mean over traces or over positions."""
    total = 0.0
    for is_expert, weight in ((True, share), (False, 1 - share)):
        traces = [
            [loss_of(logits[n, t], is_expert) for t in np.flatnonzero(grid[n])]
            for n in range(len(labels))
            if bool(labels[n]) == is_expert and grid[n].any()
        ]
        if traces:
            total += weight * np.mean([np.mean(trace) for trace in traces] if per_trace else np.concatenate(traces))
    return total


def bce(logit, is_expert, smoothing=0.0):
    p, target = 1 / (1 + np.exp(-logit)), 1 - smoothing if is_expert else smoothing
    return -target * np.log(p) - (1 - target) * np.log(1 - p)


def wasserstein(logit, is_expert):
    return -logit if is_expert else logit


def hinge(logit, is_expert, margin=1.0):
    return max(0.0, margin - logit) if is_expert else max(0.0, margin + logit)


def entropy(logit, is_expert=None):
    p = 1 / (1 + np.exp(-logit))
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def pairwise(logits, labels, grid, rivals, smoothing):
    """Mean over pairs of the cross-entropy of sigmoid(s_demonstration - s_trace), 0 without a pair."""
    scores = [np.mean(logits[n][grid[n]]) if grid[n].any() else 0.0 for n in range(len(labels))]
    losses = []
    for n, rival in enumerate(rivals):
        if rival >= 0 and grid[n].any():
            wins = 1 / (1 + np.exp(scores[n] - scores[rival]))
            target = 0.5 if labels[n] else 1 - smoothing
            losses.append(-target * np.log(wins) - (1 - target) * np.log(1 - wins))
    return np.mean(losses) if losses else 0.0


def paired_entropy(logits, grid, rivals):
    """Mean over the traces that are in a pair of the mean entropy of their positions."""
    means = [np.mean(entropy(logits[n][grid[n]])) for n, rival in enumerate(rivals) if rival >= 0 and grid[n].any()]
    return np.mean(means) if means else 0.0


def statistics(logits, labels, grid, per_trace):
    """Accuracy and mean logit of each class; a logit of 0 is half right, an absent class is 0."""
    right = {True: lambda d, _: (d > 0) + 0.5 * (d == 0), False: lambda d, _: (d < 0) + 0.5 * (d == 0)}
    out = {}
    for is_expert, name in ((True, "expert"), (False, "policy")):
        case = (logits, labels, grid, float(is_expert), per_trace)  # the other class has no share
        out[f"accuracy_{name}"] = class_mean(right[is_expert], *case)
        out[f"logit_{name}"] = class_mean(lambda d, _: d, *case)
    return out


def differences(function, logits, step=1e-6):
    """Central differences of a scalar function of all logits."""
    out = np.zeros(logits.shape)
    for index in np.ndindex(logits.shape):
        values = []
        for move in (step, -step):
            moved = logits.copy()
            moved[index] += move
            values.append(function(moved))
        out[index] = (values[0] - values[1]) / (2 * step)
    return out
