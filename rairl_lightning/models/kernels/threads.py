"""Threads for little work on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Below this many multiplications waking another thread takes longer than what it would do: measured on two cores.
WORTH_A_THREAD = 4_000_000


def threads_sleep() -> bool:
    """Whether OpenMP's threads sleep while they wait, as under ``rairl``; if they spin, they cost nothing to wake."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" and "GOMP_SPINCOUNT" not in os.environ


@contextmanager
def few_threads(products: int) -> Iterator[None]:
    """One thread for a block of little work, where another would have to be woken for it.

    Args:
        products: multiplications of the block.
    """
    threads = torch.get_num_threads()
    if threads_for(products) == threads:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def threads_for(products: int) -> int:
    """How many threads share so many multiplications."""
    threads = torch.get_num_threads()
    return 1 if products <= WORTH_A_THREAD and threads_sleep() else threads
