"""From a text of anybody's model to a trace in the layout that rewards are trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import ANSWER_OPEN, TAG, THINK_CLOSE, THINK_OPEN, render_completion
from rairl_lightning.text.statements import split_answer


@dataclass(frozen=True)
class Layout(ABC):
    """How a sampled text is laid out before a reward reads it."""

    @abstractmethod
    def __call__(self, text: str, options: Sequence[str]) -> tuple[str, str | None]:
        """Lay out one text; never raises.

        Args:
            text: as sampled.
            options: of its question; empty if the answer is free.

        Returns:
            ``(completion, answer)``; the answer is None where the text states none, or several.
        """


@dataclass(frozen=True)
class Tagged(Layout):
    r"""The layout of :mod:`rairl_lightning.text.chat`.

    A text with an answer tag is kept as it is. Of a text with a think block alone (``<think>…</think>`` and a summary)
    the block is kept, and the answer that the summary states. Of a text without tags the answer that it states last
    becomes the answer block, and is cut off the reasoning's end. A text that states no answer, or several, is a think
    block that never ends, as of a trace that was cut.

    >>> Tagged()("Cats purr. The answer is (A).", ["cat", "dog"])
    ('<think>\nCats purr.\n</think>\n<answer>\nA\n</answer>', 'A')
    >>> Tagged()("Cats purr, and", ["cat", "dog"])
    ('<think>\nCats purr, and', None)
    """

    def __call__(self, text: str, options: Sequence[str]) -> tuple[str, str | None]:
        """See the class."""
        if not text.strip():  # says nothing, which is no thought that was cut
            return text, None
        before, closed, summary = text.partition(THINK_CLOSE)
        thought = before.partition(THINK_OPEN)[2] if THINK_OPEN in before else before
        if ANSWER_OPEN in text or TAG.search(thought) or TAG.search(summary) or (TAG.search(text) and not closed):
            return text, extract_answer(text)
        if closed:
            reasoning, answer = thought.strip(), split_answer(summary, options)[1]
        else:
            reasoning, answer = split_answer(text, options)
        if answer is None or TAG.search(answer):
            return (text if closed else f"{THINK_OPEN}\n{reasoning}"), None
        return render_completion(reasoning, answer), answer


@dataclass(frozen=True)
class AsIs(Layout):
    """The text as it was sampled, for a reward that was trained on such texts.

    >>> AsIs()("Cats purr. The answer is (A).", ["cat", "dog"])
    ('Cats purr. The answer is (A).', 'A')
    """

    def __call__(self, text: str, options: Sequence[str]) -> tuple[str, str | None]:
        """See the class."""
        answer = extract_answer(text) if ANSWER_OPEN in text else split_answer(text, options)[1]
        return text, answer
