"""What was read at each token, as plain lists for a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rairl_lightning.types import TokenBatch

DIGITS = 4


def token_rows(
    tokens: TokenBatch, rewards_NT: Tensor | None, grid_NT: Tensor | None, logprobs_NT: Tensor
) -> list[dict[str, list[Any]]]:
    """The field ``tokens`` of :mod:`~rairl_lightning.evaluation.run_folder`, of N traces.

    Args:
        tokens: N traces, padded on either side.
        rewards_NT: ``[N, T]`` back-filled rewards; None where none is learnt.
        grid_NT: ``[N, T]`` bool, where the reward is read; None likewise.
        logprobs_NT: ``[N, T]`` log-probabilities under the policy, in nats.
    """
    out = []
    for row, mask_T in enumerate(tokens.completion_mask):
        count = int(mask_T.sum())
        rewards = [None] * count if rewards_NT is None else _rounded(rewards_NT[row, mask_T])
        grid = [0] * count if grid_NT is None else grid_NT[row, mask_T].int().tolist()
        offsets = tokens.char_offsets[row, mask_T].tolist()
        logprobs = _rounded(logprobs_NT[row, mask_T])
        out.append({"offsets": offsets, "reward": rewards, "grid": grid, "logprob": logprobs})
    return out


def colour_scale(rewards: Sequence[float]) -> float:
    """The 95th percentile of the sizes of the rewards, so that a few large ones do not pale the others; 1 for none.

    >>> colour_scale([0.5, -1.0, 2.0])
    2.0
    """
    sizes = sorted(abs(value) for value in rewards if math.isfinite(value))
    return (sizes[min(len(sizes) - 1, int(0.95 * len(sizes)))] if sizes else 0.0) or 1.0


def _rounded(values_T: Tensor) -> list[float | None]:
    return [round(value, DIGITS) if math.isfinite(value) else None for value in values_T.tolist()]
