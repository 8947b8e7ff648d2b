"""Float64 numpy reference of the two objectives, written from the equations with loops."""

import numpy as np


def _bce(logit, target):
    probability = 1 / (1 + np.exp(-logit))
    return -target * np.log(probability) - (1 - target) * np.log(1 - probability)


def discriminator_loss(logits, labels, grid, smoothing, per_trace):
    """L_D = 1/2 mean_pos BCE(d, 1 - eps) + 1/2 mean_neg BCE(d, eps); a class that is absent adds nothing."""
    loss = 0.0
    for is_expert, target in ((True, 1 - smoothing), (False, smoothing)):
        traces = [
            [_bce(logits[n, t], target) for t in np.flatnonzero(grid[n])]
            for n in range(len(labels))
            if bool(labels[n]) == is_expert and grid[n].any()
        ]
        if traces:
            means = [np.mean(trace) for trace in traces] if per_trace else np.concatenate(traces)
            loss += 0.5 * np.mean(means)
    return loss


def token_logprobs(hidden, ids, mask, weight, temperature):
    """log softmax(W h_{t-1} / tau)[x_t] and its entropy at completion tokens."""
    logprobs, entropy = np.zeros(mask.shape), np.zeros(mask.shape)
    for n, t in np.argwhere(mask):
        logits = weight @ hidden[n, t - 1] / temperature
        probabilities = np.exp(logits) / np.exp(logits).sum()
        logprobs[n, t] = np.log(probabilities[ids[n, t]])
        entropy[n, t] = -(probabilities * np.log(probabilities)).sum()
    return logprobs, entropy


def group_normalised(rewards, mask, group_size, eps):
    """A_n = (R_n - mean R) / (population std R + eps), R_n the mean over completion tokens."""
    returns = [np.mean(rewards[n][mask[n]]) for n in range(len(mask))]
    advantages = np.zeros(mask.shape)
    for start in range(0, len(mask), group_size):
        group = returns[start : start + group_size]
        centre = sum(group) / group_size
        std = (sum((r - centre) ** 2 for r in group) / group_size) ** 0.5
        for n in range(start, start + group_size):
            advantages[n][mask[n]] = (returns[n] - centre) / (std + eps)
    return advantages


def policy_loss(logprobs, old, reference, advantages, mask, low, high, beta, normalisation, max_tokens):
    """The clipped surrogate with k3, under the three length normalisations as their papers write them."""
    traces = []
    for n in range(len(mask)):
        tokens = []
        for t in np.flatnonzero(mask[n]):
            ratio, advantage = np.exp(logprobs[n, t] - old[n, t]), advantages[n, t]
            clipped = min(max(ratio, 1 - low), 1 + high)
            delta = reference[n, t] - logprobs[n, t]
            tokens.append(-min(ratio * advantage, clipped * advantage) + beta * (np.exp(delta) - delta - 1))
        traces.append(tokens)
    if normalisation == "grpo":
        return np.mean([np.mean(tokens) for tokens in traces])
    if normalisation == "dapo":
        return np.mean(np.concatenate(traces))
    return np.mean([np.sum(tokens) / max_tokens for tokens in traces])
