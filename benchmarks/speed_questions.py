"""The questions of a benchmark, as ids of one model."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from speed_work import Question

from rairl_lightning.data.demonstrations import GSM8K, Arithmetic, DemonstrationSource
from rairl_lightning.errors import DataError
from rairl_lightning.models import BackboneSpec, TraceCodec
from rairl_lightning.models.loading import load_tokenizer

SHARED_GSM8K = Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k"
DIGITS = "0123456789"


def source(folder: Path | None = None) -> DemonstrationSource:
    """GSM8K from ``folder``, or from where the project keeps it, or else the built-in task."""
    folder = folder or SHARED_GSM8K
    return GSM8K(str(folder)) if folder.is_dir() else Arithmetic(min_steps=4, max_steps=6)


def questions(
    model: str, wanted: int, given: DemonstrationSource, *, system_prompt: str | None = None, most_tokens: int = 192
) -> list[Question]:
    """The first training questions whose prompts are short enough; from the start again if there are too few.

    Args:
        model: folder with the tokenizer.
        wanted: how many, >= 1.
        given: where from.
        system_prompt: put before every question.
        most_tokens: of a prompt.

    Raises:
        DataError: no prompt is short enough.
    """
    codec = TraceCodec(load_tokenizer(BackboneSpec(model)), system_prompt)
    found: list[Question] = []
    for one in given.splits().train:
        trace = codec.encode_demonstration(one)
        if len(trace.prompt_ids) <= most_tokens:
            ids = list(trace.prompt_ids), list(trace.completion_ids)
            found.append(Question(one.id, one.prompt, one.reasoning, one.answer, *ids))
        if len(found) == wanted:
            return found
    if not found:
        raise DataError("No prompt is short enough.", expected=f"at most {most_tokens} tokens")
    again = enumerate(islice(cycle(found), wanted))
    return [Question(f"{one.id}-{n}", *list(vars(one).values())[1:]) for n, one in again]


def share_of_digits(text: str) -> float:
    """What both sides pay a completion: it differs within a group, so that there is something to learn.

    >>> share_of_digits("12 + 3"), share_of_digits("")
    (0.5, 0.0)
    """
    return sum(character in DIGITS for character in text) / len(text) if text else 0.0
