"""Float64 / plain-loop reference of advantages, from their equations: lists of per-trace token rewards, no masks."""

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
