"""A bounded memory of past negatives, on the CPU, saved with the checkpoint."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.types import TokenBatch, TraceIds

_COLUMNS = ("input_ids", "attention_mask", "completion_mask", "step_ends")


class RolloutBuffer:
    """First-in, first-out store of the discriminator's negatives of the last rounds.

    A round is kept as padded tensors (ids in int32, masks in bool: seven bytes a token); character offsets are
    dropped, since only localisation reads them.

    Args:
        rounds: how many rounds to remember, >= 0 (0 keeps nothing).
    """

    def __init__(self, rounds: int) -> None:
        if rounds < 0:
            raise ConfigError("The replay buffer cannot be this short.", expected="replay_rounds >= 0", got=rounds)
        self._rounds: deque[dict[str, Tensor]] = deque(maxlen=rounds)

    def __len__(self) -> int:
        return sum(len(kept["input_ids"]) for kept in self._rounds)

    @property
    def capacity(self) -> int:
        """Rounds it remembers at most."""
        return self._rounds.maxlen or 0

    def push(self, tokens: TokenBatch) -> None:
        """Remember one round's traces; the oldest round leaves when the buffer is full."""
        kept = {name: getattr(tokens, name).detach().cpu().clone() for name in _COLUMNS}
        kept["input_ids"] = kept["input_ids"].to(torch.int32)
        self._rounds.append(kept)

    def forget(self, rounds: int) -> None:
        """Drop the latest ``rounds`` rounds; what they pushed out does not come back."""
        for _ in range(min(rounds, len(self._rounds))):
            self._rounds.pop()

    def sample(self, count: int, rng: random.Random) -> list[TraceIds]:
        """Draw up to ``count`` traces without replacement, every remembered trace equally likely."""
        places = [(index, row) for index, kept in enumerate(self._rounds) for row in range(len(kept["input_ids"]))]
        return [self._trace(*place) for place in rng.sample(places, k=min(count, len(places)))]

    def _trace(self, index: int, row: int) -> TraceIds:
        ids, attention, completion, ends = (self._rounds[index][name][row] for name in _COLUMNS)
        length = int(completion.sum())
        return TraceIds(
            prompt_ids=ids[attention & ~completion].tolist(),
            completion_ids=ids[completion].tolist(),
            step_ends=ends[completion].tolist(),
            char_offsets=[(0, 0)] * length,
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors in a list, oldest round first."""
        return {"rounds": [dict(kept) for kept in self._rounds]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: if the state was not written by this class.
        """
        rounds = state.get("rounds")
        if not isinstance(rounds, list) or any(set(kept) != set(_COLUMNS) for kept in rounds):
            raise CheckpointError(
                "The replay buffer in the checkpoint cannot be read.",
                expected=f"a list of rounds with {', '.join(_COLUMNS)}",
                got=sorted(state),
            )
        self._rounds.clear()
        self._rounds.extend(rounds)
