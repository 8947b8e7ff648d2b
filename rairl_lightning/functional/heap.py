"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        return None


def give_back() -> bool:
    """Let the C library return what it holds of freed memory; whether it returned any.

    What was freed stays in pieces between what is still used, and what needs another size makes the process grow. Takes
    some tens of milliseconds a GB.
    """
    trim = _trim()
    return trim is not None and bool(trim(0))
