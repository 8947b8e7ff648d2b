"""The losses of both players, one lazy scalar a micro-batch; the scalars add up to the loss of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.components.base import DiscriminatorLoss, Granularity, PolicyLoss
from rairl_lightning.functional.batching import token_budget_split
from rairl_lightning.functional.discriminator import discriminator_statistics
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.ranking import auroc
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.types import Rollouts


@dataclass
class Seen:
    """What one discriminator update saw of its traces before it learnt from them."""

    scores: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def statistics(self) -> dict[str, float]:
        """Accuracy and mean logit of each class, and the AUROC of the traces' mean logits."""
        area = auroc(torch.cat(self.scores), torch.cat(self.labels))
        return {name: float(value) for name, value in {**self.sums, "auroc": area}.items()}


def discriminator_losses(
    discriminator: Discriminator,
    loss: DiscriminatorLoss,
    granularity: Granularity,
    drawn: LabelledTraces,
    max_tokens: int,
    seen: Seen,
) -> Iterator[Tensor]:
    """Shares of the discriminator's loss on ``drawn``.

    Args:
        discriminator: the model to train.
        loss: what it minimises.
        granularity: where its logits are read.
        drawn: M labelled traces.
        max_tokens: padded tokens of one micro-batch.
        seen: filled with the scores and statistics of this very forward pass.

    Yields:
        One scalar with gradient for each micro-batch.
    """
    tokens, labels_M = drawn.tokens, drawn.labels_expert_is_one_M
    weights_M = loss.trace_weights(labels_M, granularity(tokens).sum(dim=1))
    for rows in token_budget_split(tokens.lengths_N, max_tokens):
        part, labels_N, weights_N = tokens.select(rows), labels_M[rows], weights_M[rows]
        grid_NT = granularity(part)
        logits_NT = discriminator(part)
        seen.scores.append(masked_mean(logits_NT.detach(), grid_NT, dim=1))
        seen.labels.append(labels_N)
        for name, value in discriminator_statistics(logits_NT, labels_N, grid_NT, weights_N).items():
            seen.sums[name] = seen.sums.get(name, 0.0) + value
        yield loss(logits_NT, labels_N, grid_NT, weights_N)


def policy_losses(
    pair: ModelPair,
    loss: PolicyLoss,
    rollouts: Rollouts,
    advantages_NT: Tensor,
    temperature: float,
    max_tokens: int,
    totals: dict[str, Tensor],
) -> Iterator[Tensor]:
    """Shares of the policy's loss on a round's rollouts.

    Args:
        pair: the policy to train, and the reference.
        loss: what the policy minimises.
        rollouts: N traces with the log-probabilities they were sampled with.
        advantages_NT: ``[N, T]``.
        temperature: the sampler's.
        max_tokens: padded tokens of one micro-batch.
        totals: filled with weighted sums; divide by its ``weight`` for the round's means.

    Yields:
        One scalar with gradient for each micro-batch.
    """
    tokens = rollouts.tokens
    columns = (rollouts.logprobs, advantages_NT, loss.token_weights(tokens.completion_mask))
    for rows in token_budget_split(tokens.lengths_N, max_tokens):
        part, *columns_of_part = tokens.select_with(rows, *columns)
        old, advantages, weights = columns_of_part
        reference = pair.reference.logprobs(part, temperature).logprobs if loss.needs_reference else None
        current = pair.policy.logprobs(part, temperature)
        output = loss(current.logprobs, old, reference, advantages, weights)
        for name, value in {**output.statistics, "entropy": (weights * current.entropy).sum()}.items():
            totals[name] = totals.get(name, 0.0) + value
        yield output.loss
