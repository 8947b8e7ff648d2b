"""Traces longer than the context the discriminator's backbone was made for: one class a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number


class Window(NamedTuple):
    """Completion tokens ``start <= t < stop``, read behind the whole prompt; the outputs from ``keep`` on are kept."""

    start: int
    stop: int
    keep: int


class LongTraces(ABC):
    """What is done with a trace that is longer than the context."""

    @abstractmethod
    def windows(self, prompt: int, completion: int, context: int) -> list[Window]:
        """How to read it; no window leaves it out.

        Args:
            prompt: tokens.
            completion: tokens; ``prompt + completion > context``.
            context: tokens.

        Raises:
            DataError: it is refused.
        """


@dataclass(frozen=True)
class LeftOut(LongTraces):
    """Give it no reward, say why, and count it."""

    def windows(self, prompt: int, completion: int, context: int) -> list[Window]:
        """None."""
        return []


@dataclass(frozen=True)
class Refuse(LongTraces):
    """Stop."""

    def windows(self, prompt: int, completion: int, context: int) -> list[Window]:
        """Raise."""
        raise DataError(
            "A trace is longer than the context.",
            expected=f"at most {context} tokens",
            got=f"{prompt} of the prompt and {completion} of the completion",
            remedy="leave such traces out (--long LeftOut) or read them in windows (--long Windows)",
        )


@dataclass(frozen=True)
class Windows(LongTraces):
    """Read the completion in overlapping windows, each behind the whole prompt (not in the paper).

    A token is read in the window in which most of the completion stands before it, which is the first that holds it.
    A head that looks at the whole completion so far sees no further back than its window.
    """

    overlap: int = 256
    """Tokens before the first that a later window is read for, >= 0; at most half of a window is spent on them."""

    def __post_init__(self) -> None:
        check_number("overlap", self.overlap, at_least=0)

    def windows(self, prompt: int, completion: int, context: int) -> list[Window]:
        """Windows that keep every token once; none where the prompt leaves no room.

        >>> Windows(overlap=2).windows(prompt=3, completion=10, context=8)
        [Window(start=0, stop=5, keep=0), Window(start=3, stop=8, keep=5), Window(start=6, stop=10, keep=8)]
        """
        room = context - prompt
        if room < 1:
            return []
        overlap = min(self.overlap, room // 2)
        found = [Window(0, min(room, completion), 0)]
        while found[-1].stop < completion:
            read = found[-1].stop
            found.append(Window(read - overlap, min(read - overlap + room, completion), read))
        return found
