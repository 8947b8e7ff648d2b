"""What every perturbation shares: the call, the check, the span."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.chat import THINK_OPEN, render_completion
from rairl_lightning.text.expressions import Token


class Solution(Protocol):
    """Anything with a question, reasoning and an answer, such as a demonstration."""

    @property
    def prompt(self) -> str:
        """The question as the user asks it."""

    @property
    def reasoning(self) -> str:
        """The chain of thought, without tags."""

    @property
    def answer(self) -> str:
        """The final answer."""


@dataclass(frozen=True)
class Corruption:
    """A trace with one known error.

    Attributes:
        reasoning: the corrupted reasoning.
        answer: the corrupted, or unchanged, answer.
        span: ``(start, end)`` in ``render_completion(reasoning, answer)``: the characters in which the trace first goes
            wrong. Before them stands only what the expert wrote, in the expert's order; after them too, except where a
            kind says that it carries its error on.
        kind: class name of the perturbation.
    """

    reasoning: str
    answer: str
    span: tuple[int, int]
    kind: str


class Rewrite(NamedTuple):
    """What a perturbation makes of a trace.

    Attributes:
        reasoning: the new reasoning.
        answer: the new, or old, answer.
        span: where it first goes wrong, in the new completion; None for all that differs from the old one.
    """

    reasoning: str
    answer: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Perturbation(ABC):
    """Corrupts a trace, or rejects it. A variant only writes :meth:`rewrite`; the checks and the span are shared."""

    changes_answer: ClassVar[bool] = False
    """Whether the answer must become another one; otherwise it stays and only the reasoning goes wrong."""

    def __call__(
        self, demonstration: Solution, rng: random.Random, others: Sequence[Solution] = ()
    ) -> Corruption | None:
        """Corrupt one trace.

        Args:
            demonstration: the expert's solution; reasoning and answer without tags.
            rng: the only source of randomness.
            others: further demonstrations of the same data set; kinds that borrow from them reject without any.

        Returns:
            The corruption, or None if the perturbation does not apply, changed nothing, or left an answer that agrees
            with the expert's though it had to change.
        """
        rewritten = self.rewrite(demonstration, rng, others)
        if rewritten is None:
            return None
        before = render_completion(demonstration.reasoning, demonstration.answer)
        after = render_completion(rewritten.reasoning, rewritten.answer)
        if before == after or (self.changes_answer and answers_agree(demonstration.answer, rewritten.answer)):
            return None
        span = rewritten.span or changed_span(before, after)
        return Corruption(rewritten.reasoning, rewritten.answer, span, type(self).__name__)

    @abstractmethod
    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """New reasoning and answer, or None if this trace offers no place for the error."""


class Attempt(NamedTuple):
    """Outcome of :func:`corrupt`: the corruption, if any, and the kinds that were tried before it and rejected."""

    corruption: Corruption | None
    rejected: tuple[str, ...]


def corrupt(
    demonstration: Solution, perturbations: Sequence[Perturbation], rng: random.Random, others: Sequence[Solution] = ()
) -> Attempt:
    """Corrupt a demonstration with the first perturbation, in random order, that applies.

    Args:
        demonstration: the expert's solution.
        perturbations: the kinds to try.
        rng: the only source of randomness; the same state gives the same corruption.
        others: further demonstrations to borrow from.

    Returns:
        ``(corruption | None, rejected kinds)``; count the second to report how often each kind does not apply.
    """
    rejected: list[str] = []
    for perturbation in rng.sample(list(perturbations), len(perturbations)):
        corruption = perturbation(demonstration, rng, others)
        if corruption is not None:
            return Attempt(corruption, tuple(rejected))
        rejected.append(type(perturbation).__name__)
    return Attempt(None, tuple(rejected))


def changed_span(before: str, after: str) -> tuple[int, int]:
    """Characters of ``after`` between the longest common beginning and end; the next one after a pure deletion.

    >>> changed_span("3 + 4 = 7", "3 + 4 = 17"), changed_span("3 + 4", "3 * 4")
    ((8, 9), (2, 3))
    """
    shorter = min(len(before), len(after))
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)
    return start, max(len(after) - tail, start + 1)


class Edit(NamedTuple):
    """Characters ``start:end`` of the reasoning give way to ``text``."""

    start: int
    end: int
    text: str


def edited(reasoning: str, answer: str, edits: Iterable[Edit]) -> Rewrite:
    """Make disjoint edits of the reasoning; the trace first goes wrong in the first that changes something.

    >>> edited("3 + 4 = 7, so 7", "8", [Edit(14, 15, "8"), Edit(8, 9, "8")])
    Rewrite(reasoning='3 + 4 = 8, so 8', answer='8', span=(16, 17))
    """
    real = sorted(edit for edit in edits if reasoning[edit.start : edit.end] != edit.text)
    if not real:
        return Rewrite(reasoning, answer)
    first = real[0]
    start, end = changed_span(reasoning[first.start : first.end], first.text)
    shift = first.start + start_of_reasoning(reasoning)
    return Rewrite(applied(reasoning, real), answer, (shift + start, shift + end))


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text after disjoint edits.

    >>> applied("a high one", [Edit(0, 1, "an"), Edit(2, 6, "unknown")])
    'an unknown one'
    """
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def start_of_reasoning(reasoning: str) -> int:
    """What to add to a place in the reasoning to have it in the completion, which drops outer white space."""
    return len(THINK_OPEN) + 1 - (len(reasoning) - len(reasoning.lstrip()))


def spliced(text: str, token: Token, new: str) -> str:
    """``text`` with ``new`` in place of a token."""
    return text[: token.start] + new + text[token.end :]
