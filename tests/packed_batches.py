"""Batches of traces of which some share their prompts."""

from __future__ import annotations

import random

from rairl_lightning.types import TokenBatch, TraceIds

# (prompt, completion) lengths; equal letters are equal prompts.
BATCHES = {
    "groups": [("a", 9, 5), ("a", 9, 1), ("b", 3, 7), ("a", 9, 4), ("b", 3, 2)],
    "all apart": [("a", 9, 5), ("b", 3, 7), ("c", 6, 6)],
    "one": [("a", 4, 3)],
    "empty completions": [("a", 9, 0), ("a", 9, 0), ("a", 9, 3), ("b", 2, 0)],
    "alike": [("a", 9, 5)] * 4,
}


def batch_of(name: str, side: str) -> TokenBatch:
    draw = random.Random(7)
    prompts: dict[str, list[int]] = {}
    traces = []
    for letter, prompt, completion in BATCHES[name]:
        ids = prompts.setdefault(letter, [draw.randrange(1, 61) for _ in range(prompt)])
        own = [draw.randrange(1, 61) for _ in range(completion)]
        traces.append(TraceIds(ids, own, [False] * completion, [(0, 0)] * completion))
    return TokenBatch.from_traces(traces, 0, side=side)
