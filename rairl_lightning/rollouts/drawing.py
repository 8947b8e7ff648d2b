"""One token a row from logits and uniform numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits_NV: Tensor, uniforms_N: Tensor, temperature: float, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution ``softmax(z / τ)``.

    Args:
        logits_NV: ``[N, V]`` float32.
        uniforms_N: ``[N]`` in (0, 1].
        temperature: τ ≥ 0; 0 takes the largest logit.
        top_p: nucleus.

    Returns:
        Tokens ``[N]`` and their log-probabilities ``[N]`` under the distribution drawn from (τ = 1 if greedy).
    """
    if temperature == 0:
        largest = logits_NV.max(dim=-1)
        return largest.indices, largest.values - logits_NV.logsumexp(dim=-1)
    scaled_NV = logits_NV if temperature == 1 else logits_NV / temperature
    if top_p < 1:
        scaled_NV = _nucleus(scaled_NV, top_p)
    probabilities_NV = scaled_NV.softmax(dim=-1)
    cumulative_NV = probabilities_NV.cumsum(dim=-1)
    # Scaled by the rounded total, a uniform in (0, 1] always lands on a token that has probability.
    tokens_N1 = torch.searchsorted(cumulative_NV, uniforms_N[:, None] * cumulative_NV[:, -1:])
    return tokens_N1.squeeze(1), probabilities_NV.gather(1, tokens_N1).squeeze(1).log()


def _nucleus(scaled_NV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most probable tokens that reaches ``top_p``."""
    ordered = scaled_NV.sort(dim=-1, descending=True)
    probabilities = ordered.values.softmax(dim=-1)
    beyond = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return scaled_NV.masked_fill(beyond.scatter(1, ordered.indices, beyond), -torch.inf)
