"""Float64 / plain-loop reference of advantages, from their equations: lists of per-trace token rewards, no masks."""

from itertools import pairwise

import numpy as np


def groups(traces, size):
    return [traces[start : start + size] for start in range(0, len(traces), size)]


def centred(traces, size):
    out = []
    for group in groups(traces, size):
        baseline = np.mean([np.mean(trace) for trace in group])
        out += [np.array(trace) - baseline for trace in group]
    return out


def to_go(trace, discount):
    return np.array([sum(discount ** (s - t) * trace[s] for s in range(t, len(trace))) for t in range(len(trace))])


def reward_to_go(traces, size, discount):
    return [to_go(trace, discount) for trace in centred(traces, size)]


def leave_one_out(traces, size):
    out = []
    for group in groups([np.mean(trace) for trace in traces], size):
        out += [mine - np.mean(group[:n] + group[n + 1 :]) for n, mine in enumerate(group)]
    return [np.full(len(trace), value) for trace, value in zip(traces, out, strict=True)]


def spread(traces):
    """Each trace counts alike: the root of the mean over traces of the mean squared distance to the mean of means."""
    centre = np.mean([np.mean(trace) for trace in traces])
    return np.sqrt(np.mean([np.mean((np.array(trace) - centre) ** 2) for trace in traces]))


def scaled(traces, size, scaling, eps):
    """Divided by the spread of the group, of the batch, or by nothing."""
    if scaling == "none":
        return [np.array(trace) for trace in traces]
    out = []
    for group in groups(traces, size if scaling == "group" else len(traces)):
        out += [np.array(trace) / (spread(group) + eps) for trace in group]
    return out


def trace_centred(traces, size):
    """Each trace's mean reward against the mean of its group's, for all of its tokens."""
    return centred([np.full(len(trace), np.mean(trace)) for trace in traces], size)


def normalised(traces, size, eps):
    """(R - mean R) / (population deviation of R + eps) in each group."""
    out = []
    for group in groups(traces, size):
        returns = np.array([np.mean(trace) for trace in group])
        deviation = np.sqrt(np.mean((returns - np.mean(returns)) ** 2))
        out += [
            np.full(len(trace), (own - np.mean(returns)) / (deviation + eps))
            for trace, own in zip(group, returns, strict=True)
        ]
    return out


def signal(trace, lengths, kind, clip=np.inf):
    """Of each token, from its segment's reward: the change since the segment before, 0 in the first, or the level."""
    ends = np.cumsum(lengths) - 1
    levels = [trace[end] for end in ends]
    changes = [0.0] + [own - before for before, own in pairwise(levels)]
    of_segment = {
        "drop": [min(0.0, change) for change in changes],
        "change": [max(-clip, min(clip, change)) for change in changes],
        "level": levels,
    }[kind]
    return np.repeat(of_segment, lengths)
