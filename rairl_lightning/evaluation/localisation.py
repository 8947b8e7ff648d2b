"""Where a trace goes wrong, on demonstrations corrupted at a known span (the paper's protocol)."""

from __future__ import annotations

import torch
from torch import Tensor

from rairl_lightning.functional.grid import reward_grid
from rairl_lightning.functional.localisation import (
    chance,
    hits,
    interval_target,
    largest_drop,
    span_tokens,
    step_target,
)
from rairl_lightning.types import Perturbed

METHODS = ("reward", "logprob_drop", "chance")
LEVELS = ("token", "interval", "step")


def localise(
    perturbed: Perturbed, pay_NT: Tensor | None, grid_NT: Tensor | None, logprobs_NT: Tensor, every: int
) -> dict[str, dict[str, Tensor]]:
    """Hit@1 of the largest drop of each trace, at three levels.

    The predicted position is the grid point after which the score fell most; it is a hit if it lies on a changed
    token, in the same interval of ``every`` tokens, or in the same reasoning step.

    Args:
        perturbed: N corrupted demonstrations with their spans.
        pay_NT: ``[N, T]`` what the critic would pay, not clipped; None where no reward was learnt.
        grid_NT: ``[N, T]`` bool, where it is read; None likewise.
        logprobs_NT: ``[N, T]`` log-probabilities under the policy, the baseline; read at every token.
        every: tokens of an interval, >= 1.

    Returns:
        For ``reward`` (where there is one), ``logprob_drop`` and ``chance`` (a random completion token): level to
        ``[N]`` values in [0, 1].
    """
    tokens = perturbed.tokens
    if not len(tokens):
        nothing = {level: torch.zeros(0, dtype=torch.float64) for level in LEVELS}
        return {method: dict(nothing) for method in METHODS if method != "reward" or pay_NT is not None}
    mask = tokens.completion_mask
    changed = span_tokens(tokens.char_offsets, mask, perturbed.spans.to(mask.device))
    targets = (changed, interval_target(changed, mask, every), step_target(changed, mask, tokens.step_ends))
    predictions = {"logprob_drop": largest_drop(logprobs_NT, reward_grid(mask, every=1), mask)}
    if pay_NT is not None and grid_NT is not None:
        predictions = {"reward": largest_drop(pay_NT, grid_NT, mask), **predictions}
    levels = list(zip(LEVELS, targets, strict=True))
    out = {
        name: {level: hits(predicted, target).double() for level, target in levels}
        for name, predicted in predictions.items()
    }
    return {**out, "chance": {level: chance(target, mask) for level, target in levels}}
