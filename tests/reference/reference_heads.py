"""Float64 / plain-loop reference of the discriminator's heads, from the equation in ``ExpectationHead``.

The features are as the class says but for their scale: vectors have root mean square 1, log-probabilities are cut at
-20 and divided by 4.
"""

from math import erf

import numpy as np


def linear(hidden, weights):
    return hidden @ weights["scalar.weight"][0] + weights["scalar.bias"][0]


def unit(vector):
    return vector / np.sqrt(np.mean(vector**2) + 1e-6)


def log_probability(hidden, token, vocabulary):
    logits = vocabulary @ hidden
    return logits[token] - np.log(np.sum(np.exp(logits)))


def gelu(x):
    return np.array([value * (1 + erf(value / np.sqrt(2))) / 2 for value in x])


def expectation(hidden, ids, embedding, vocabulary, prompt, weights, features):
    """Of one unpadded trace: a logit for every token, the prompt's too."""
    out, lowest = [], 0.0
    for t in range(len(ids)):
        logprob = 0.0  # of a prompt's token: nothing was expected there
        if t >= prompt:
            logprob = max(log_probability(hidden[t - 1], ids[t], vocabulary), -20.0)
            lowest = min(lowest, logprob)
        before = unit(hidden[t - 1]) if t else np.zeros_like(hidden[t])
        parts = {
            "hidden": unit(hidden[t]),
            "product": before * unit(embedding[ids[t]]),
            "logprob": [logprob / 4],
            "running_min": [lowest / 4],
        }
        x = np.concatenate([parts[name] for name in features])
        inner = gelu(weights["mlp.0.weight"] @ x + weights["mlp.0.bias"])
        out.append(linear(hidden[t], weights) + weights["mlp.2.weight"][0] @ inner + weights["mlp.2.bias"][0])
    return np.array(out)
