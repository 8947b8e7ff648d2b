"""The losses of both players, one lazy scalar a micro-batch; the scalars add up to the loss of the whole.

With several processes each makes the scalars of its own micro-batches, and those of all add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.algorithms.penalty import penalty_losses
from rairl_lightning.algorithms.seen import SeenByDiscriminator, SeenByPolicy
from rairl_lightning.components.base import DiscriminatorLoss, Granularity, PolicyLoss
from rairl_lightning.components.corrections import SamplerCorrection
from rairl_lightning.components.critics import Critic
from rairl_lightning.components.experts import ExpertInGroup
from rairl_lightning.components.penalties import GradientPenalty
from rairl_lightning.functional.batching import local_rivals
from rairl_lightning.functional.processes import idle, own
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.models.policy import Policy
from rairl_lightning.types import Rollouts, TokenBatch


@dataclass(frozen=True)
class Objective:
    """What the discriminator is trained for.

    Attributes:
        critic: from its outputs to its logit.
        granularity: where the logit is read.
        loss: what it costs.
        penalty: on its gradient, or None.
    """

    critic: Critic
    granularity: Granularity
    loss: DiscriminatorLoss
    penalty: GradientPenalty | None = None


def discriminator_losses(
    discriminator: Discriminator,
    objective: Objective,
    drawn: LabelledTraces,
    max_tokens: int,
    seen: SeenByDiscriminator,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Shares of the discriminator's loss on ``drawn``.

    Args:
        discriminator: the model to train.
        objective: what it is trained for.
        drawn: M labelled traces.
        max_tokens: of one micro-batch.
        seen: filled with the scores and statistics of this very forward pass.
        generator: of the penalty alone.

    Yields:
        One scalar with gradient for each micro-batch of this process.
    """
    critic, granularity, loss = objective.critic, objective.granularity, objective.loss
    tokens, labels_M, rivals_M = drawn.tokens, drawn.labels_expert_is_one_M, drawn.rivals_M
    positions_M = granularity(tokens).sum(dim=1)
    weights_M = loss.trace_weights(labels_M, positions_M, rivals_M)
    batches = (
        loss.micro_batches(tokens.lengths_N, rivals_M, max_tokens)
        if loss.compares_traces
        else discriminator.micro_batches(tokens, max_tokens)
    )
    seen.expect(drawn, batches, positions_M, None if loss.compares_traces else weights_M)
    rivals = rivals_M if loss.compares_traces else None
    for rows in own(batches, rivals):
        part, old_NT = drawn.part(rows)
        grid_NT, mask_NT = granularity(part), part.completion_mask
        outputs = discriminator(part)
        logits_NT = critic.logits(outputs, old_NT, grid_NT, mask_NT)
        seen.add(rows, critic.pay(outputs.detach(), grid_NT, mask_NT), logits_NT, grid_NT)
        yield loss(logits_NT, labels_M[rows], grid_NT, weights_M[rows], local_rivals(rivals_M, rows))
    for rows in idle(batches, rivals):
        yield 0.0 * discriminator(tokens.select(rows)).sum()
    if objective.penalty is not None:
        seen.add_penalty(weights_M.new_zeros(()))
        for share in penalty_losses(
            discriminator, critic, granularity, objective.penalty, drawn, max_tokens, generator
        ):
            seen.add_penalty(share)
            yield share


def corrected(
    policy: Policy, correction: SamplerCorrection, rollouts: Rollouts, temperature: float, max_tokens: int
) -> tuple[Tensor, Tensor]:
    """The old log-probabilities of the policy's loss, and the factor on each token's advantage, ``[N, T]`` each.

    Args:
        policy: before its update.
        correction: of the gap between sampler and trainer.
        rollouts: N traces with the sampler's log-probabilities.
        temperature: the sampler's.
        max_tokens: padded tokens of one micro-batch.
    """
    tokens, sampler_NT = rollouts.tokens, rollouts.logprobs
    trainer_NT = policy.score(tokens, max_tokens, temperature).logprobs if correction.needs_trainer else None
    factors_NT = correction(trainer_NT, sampler_NT, tokens.completion_mask)
    return sampler_NT if trainer_NT is None else trainer_NT, factors_NT


@dataclass(frozen=True)
class PolicyBatch:
    """What one or more updates of the policy read.

    Attributes:
        tokens: N traces, whole groups.
        sampler_logprobs_NT: ``[N, T]`` they were sampled with.
        old_logprobs_NT: ``[N, T]`` which the ratio is taken against.
        advantages_NT: ``[N, T]``.
        is_expert_N: ``[N]`` bool, True for demonstrations.
        group_size: members of a group.
    """

    tokens: TokenBatch
    sampler_logprobs_NT: Tensor
    old_logprobs_NT: Tensor
    advantages_NT: Tensor
    is_expert_N: Tensor
    group_size: int

    def groups(self, prompts_B: Tensor) -> PolicyBatch:
        """The groups of some prompts, in their order."""
        members_G = torch.arange(self.group_size, device=prompts_B.device)
        rows = (prompts_B[:, None] * self.group_size + members_G).flatten()
        tokens, *columns = self.tokens.select_with(
            rows, self.sampler_logprobs_NT, self.old_logprobs_NT, self.advantages_NT
        )
        sampler, old, advantages = columns
        return PolicyBatch(tokens, sampler, old, advantages, self.is_expert_N[rows], self.group_size)


def policy_losses(
    pair: ModelPair,
    loss: PolicyLoss,
    expert: ExpertInGroup,
    batch: PolicyBatch,
    temperature: float,
    max_tokens: int,
    seen: SeenByPolicy,
) -> Iterator[Tensor]:
    """Shares of the policy's loss in one update.

    Args:
        pair: the policy to train, and the reference.
        loss: what the policy minimises.
        expert: what demonstrations weigh.
        batch: N traces.
        temperature: the sampler's.
        max_tokens: padded tokens of one micro-batch.
        seen: filled with statistics of this very forward pass.

    Yields:
        One scalar with gradient for each micro-batch of this process.
    """
    tokens = batch.tokens
    weights_NT = expert.weigh(loss.token_weights(tokens.completion_mask), batch.is_expert_N, batch.group_size)
    columns = (batch.sampler_logprobs_NT, batch.old_logprobs_NT, batch.advantages_NT, weights_NT)
    batches = pair.policy.micro_batches(tokens, max_tokens)
    mine = own(batches)
    if not mine:
        _see_nothing(loss, seen, tokens.device)
    for rows in mine:
        part, *columns_of_part = tokens.select_with(rows, *columns)
        sampler, old, advantages, weights = columns_of_part
        reference = pair.reference.logprobs(part, temperature).logprobs if loss.needs_reference else None
        current = pair.policy.logprobs(part, temperature)
        output, sampled_N1 = loss(current.logprobs, old, reference, advantages, weights), ~batch.is_expert_N[rows, None]
        counted, statistics = weights, output.statistics
        if not sampled_N1.all():  # statistics are of rollouts
            counted = weights * sampled_N1
            with torch.no_grad():
                statistics = loss(current.logprobs, old, reference, advantages, counted).statistics
        seen.add({**statistics, "entropy": (counted * current.entropy).sum()})
        seen.compare(current.logprobs, sampler, part.completion_mask & sampled_N1)
        yield output.loss
    for rows in idle(batches):
        part = tokens.select(rows)
        if loss.needs_reference:
            pair.reference.logprobs(part, temperature)
        yield 0.0 * pair.policy.logprobs(part, temperature).logprobs.sum()


def _see_nothing(loss: PolicyLoss, seen: SeenByPolicy, device: torch.device) -> None:
    """A process without a micro-batch adds nothing, under the names that the others add up."""
    empty_NT = torch.zeros(0, 1, device=device)
    output = loss(empty_NT, empty_NT, empty_NT if loss.needs_reference else None, empty_NT, empty_NT)
    seen.add({**output.statistics, "entropy": empty_NT.sum()})
    seen.compare(empty_NT, empty_NT, empty_NT.bool())
