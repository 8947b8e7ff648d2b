"""Whether a reward is judged on the questions it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console

from rairl_lightning.data.question_hashes import QuestionHashes


def questions_trained_on(trained_on: QuestionHashes, prompts: Collection[str]) -> dict[str, int | None]:
    """How many questions there are, and how many of them the reward was trained on.

    Args:
        trained_on: of the reward; empty where it does not say.
        prompts: of the questions that are reported.

    Returns:
        ``questions`` and ``questions_trained_on``; None where nobody knows.
    """
    return {"questions": len(prompts), "questions_trained_on": trained_on.count(prompts) if trained_on else None}


def warn_of_overlap(counts: Mapping[str, Any], console: Console) -> None:
    """Say so where a result is of questions the reward was trained on.

    Args:
        counts: of the report, with ``questions`` and ``questions_trained_on``.
        console: where to.
    """
    if known := counts.get("questions_trained_on"):
        told = f"{known:,} of {counts['questions']:,} questions are ones the reward was trained on"
        console.print(f"{told}: these figures are not of unseen questions.", style="yellow", highlight=False)
