"""The gradient penalty of a discriminator update, beside its loss: forward passes of its own, from embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.components.base import Granularity
from rairl_lightning.components.critics import Critic
from rairl_lightning.components.penalties import GradientPenalty, PenaltyInputs
from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.functional.gradient_penalty import LogitsOf, aligned_completions, opposite_rows
from rairl_lightning.functional.processes import idle, own
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.types import TokenBatch


def penalty_losses(
    discriminator: Discriminator,
    critic: Critic,
    granularity: Granularity,
    penalty: GradientPenalty,
    drawn: LabelledTraces,
    max_tokens: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Shares of the penalty on ``drawn``; what is random is drawn once, so the split changes nothing.

    Args:
        discriminator: the model to train.
        critic: from its outputs to the logit that is held back.
        granularity: where the logit is read.
        penalty: on its gradient.
        drawn: M labelled traces.
        max_tokens: padded tokens of one micro-batch.
        generator: on the traces' device.

    Yields:
        One scalar with gradient for each micro-batch of this process.
    """
    tokens, labels_M = drawn.tokens, drawn.labels_expert_is_one_M
    weights_M = penalty.trace_weights(labels_M)
    seeds_M = torch.randint(2**62, (len(drawn),), generator=generator, device=tokens.device)
    partners_M = opposite_rows(labels_M, generator) if penalty.needs_partners else None
    weighed = torch.nonzero(weights_M).flatten()

    def share(split: Tensor) -> Tensor:
        rows = weighed[split]
        part, old_NT = drawn.part(rows)
        grid_NT, mask_NT = granularity(part), part.completion_mask
        between: tuple[Tensor | None, Tensor | None] = (None, None)
        if partners_M is not None:
            partners = tokens.select(partners_M[rows])
            between = aligned_completions(discriminator.embed(partners), partners.completion_mask, mask_NT)
        inputs = PenaltyInputs(discriminator.embed(part), mask_NT, grid_NT, seeds_M[rows], *between)
        return penalty(_logits_of(discriminator, critic, part, old_NT, grid_NT), inputs, weights_M[rows])

    batches = token_budget_split(tokens.lengths_N[weighed], max_tokens)
    for split in own(batches):
        yield share(split)
    for split in idle(batches):
        yield 0.0 * share(split)


def _logits_of(
    discriminator: Discriminator, critic: Critic, part: TokenBatch, old_NT: Tensor | None, grid_NT: Tensor
) -> LogitsOf:
    def logits_of(embeddings_NTH: Tensor) -> Tensor:
        return critic.logits(discriminator(part, embeddings_NTH), old_NT, grid_NT, part.completion_mask)

    return logits_of
