"""What is asked of an engine that draws by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """Completions of prompts.

    Attributes:
        max_new_tokens: longest, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token.
        top_p: nucleus.
        eos_id: ends a completion.
        count: of each prompt.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    eos_id: int
    count: int = 1
