"""The policy's side of a round: from what its traces are paid to its updates. R-AIRL and GRPO call it alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rairl_lightning.algorithms.losses import PolicyBatch, corrected, policy_losses
from rairl_lightning.algorithms.members import GroupMembers
from rairl_lightning.algorithms.nonfinite import all_finite, culprits
from rairl_lightning.algorithms.optimisation import Update
from rairl_lightning.algorithms.players import PlayersModule
from rairl_lightning.algorithms.requirements import require_one_kl
from rairl_lightning.algorithms.seen import SeenByPolicy
from rairl_lightning.algorithms.statistics import reward_statistics
from rairl_lightning.components import Advantage, ExpertInGroup, PolicyLoss, RewardPenalty, SamplerCorrection
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.divergence import kl_k3
from rairl_lightning.types import Rollouts, TrainBatch


@dataclass(frozen=True)
class PolicyObjective:
    """What the policy is trained for, and how often on a round.

    Attributes:
        loss: what it minimises.
        advantage: how rewards become advantages.
        reward_penalty: what is taken from the rewards before.
        correction: of advantages, where sampler and trainer differ.
        expert: whether the demonstration is a member of its group.
        epochs: passes over a round, >= 1.
        minibatches: updates of a pass, each on whole groups, >= 1.

    Raises:
        ConfigError: the KL to the reference counts twice, or there is no update.
    """

    loss: PolicyLoss
    advantage: Advantage
    reward_penalty: RewardPenalty
    correction: SamplerCorrection
    expert: ExpertInGroup
    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        require_one_kl(self.reward_penalty, self.loss)
        if min(self.epochs, self.minibatches) < 1:
            raise ConfigError(
                "The policy is never updated.",
                expected="policy_epochs >= 1, policy_minibatches >= 1",
                got=f"{self.epochs}, {self.minibatches}",
            )

    @property
    def updates(self) -> int:
        """Most updates of a round; the last batch of an epoch may hold fewer prompts than there are minibatches."""
        return self.epochs * self.minibatches


def group_members(
    module: PlayersModule, objective: PolicyObjective, batch: TrainBatch, rollouts: Rollouts
) -> GroupMembers:
    """Who the policy learns from in this round; must be called before it moves.

    Args:
        module: whose policy has just sampled.
        objective: says whether demonstrations join.
        batch: the round's demonstrations.
        rollouts: sampled of the same prompts.
    """
    if not objective.expert.joins:
        return GroupMembers.rollouts_alone(rollouts)
    logprobs_BT = module.policy_logprobs(batch.experts)
    texts = tuple(module.codec.decode(trace.completion_ids) for trace in batch.experts.traces())
    return GroupMembers.with_experts(rollouts, batch.experts, logprobs_BT, texts, module.codec.pad_id)


def penalised(module: PlayersModule, penalty: RewardPenalty, rewards_NT: Tensor, members: GroupMembers) -> Tensor:
    """What the members of the groups are paid: the rewards less the penalty, ``[N, T]``.

    Logs the rollouts' mean penalty and, where the reference is asked, their k3 to it as ``policy/kl``, in nats a token:
    what a loss with a KL logs, of its default estimate and normalisation.

    Args:
        module: with the policy and the reference.
        penalty: what is taken.
        rewards_NT: ``[N, T]`` of every completion token.
        members: N traces with the log-probabilities of the policy that sampled.
    """
    tokens, reference_NT = members.tokens, None
    if penalty.needs_reference:
        reference, temperature = module.models.reference, module.sampler.temperature
        reference_NT = reference.score(tokens, module.max_tokens_per_microbatch, temperature).logprobs
        kl_NT = kl_k3(members.traces.logprobs, reference_NT)
        module.log("policy/kl", float(members.split_means(kl_NT)[0].mean()))
    paid_NT = penalty(rewards_NT, members.traces.logprobs, reference_NT, tokens.completion_mask)
    module.log("reward/penalty", float(members.split_means(rewards_NT - paid_NT)[0].mean()))
    return paid_NT


def improve_policy(
    module: PlayersModule,
    objective: PolicyObjective,
    members: GroupMembers,
    paid_NT: Tensor,
    grid_NT: Tensor | None = None,
) -> None:
    """Update the policy on a round's traces, and log what was paid and what was done.

    Args:
        module: whose policy moves.
        objective: what it is trained for.
        members: N traces, whole groups.
        paid_NT: ``[N, T]`` reward of every completion token, less the penalty.
        grid_NT: ``[N, T]`` bool, where the reward was read; None for all completion tokens.
    """
    mask_NT, own_N = members.tokens.completion_mask, ~members.is_expert_N
    read = {"reward": paid_NT, "log-probability of sampling": members.traces.logprobs}
    wrong = [what for what, values_NT in read.items() if not all_finite(values_NT, members.tokens)]
    if wrong:  # one such trace would spoil the advantages of its group, and the loss of all
        module.skip_update("policy", culprits(wrong[0], read[wrong[0]], members.tokens, module.codec))
    else:
        advantages_NT = objective.advantage(paid_NT, mask_NT, members.traces.group_size, grid_NT)
        update_policy(module, objective, members, advantages_NT)
    module.log_dict(reward_statistics(paid_NT[own_N], mask_NT[own_N], members.rollouts_a_prompt))
    if objective.expert.joins:
        module.log("reward/expert", float(members.split_means(paid_NT)[1].mean()))


def update_policy(
    module: PlayersModule, objective: PolicyObjective, members: GroupMembers, advantages_NT: Tensor
) -> None:
    """Update on the round's traces, ``epochs · minibatches`` times; logs are means over the updates.

    The ratio is taken against the log-probabilities of sampling time throughout (where the correction asks for the
    trainer's, against those before the first update), so that its clip bounds how far the whole round may go.
    """
    traces, updates, seen = members.traces, list[Update](), SeenByPolicy()
    limit, temperature = module.max_tokens_per_microbatch, module.sampler.temperature
    with module.stopwatch("policy", objective.epochs * int(traces.tokens.attention_mask.sum())):
        old_NT, factors_NT = corrected(module.models.policy, objective.correction, traces, temperature, limit)
        batch = PolicyBatch(
            traces.tokens,
            traces.logprobs,
            old_NT,
            factors_NT * advantages_NT,
            members.is_expert_N,
            traces.group_size,
        )
        for part in minibatches(batch, objective.epochs, objective.minibatches, module.generator("minibatches")):
            losses = policy_losses(module.models, objective.loss, objective.expert, part, temperature, limit, seen)
            updates.append(module.update_player("policy", losses, partial(module.unlikely, part.tokens)))
            module.clock.policy_updates += 1
            seen.has_moved = True
    module.log_update("policy", Update.mean(updates))
    module.log_dict(seen.statistics())


def minibatches(batch: PolicyBatch, epochs: int, parts: int, generator: torch.Generator) -> Iterator[PolicyBatch]:
    """Whole groups, each once an epoch, in a new order every epoch; all of them as they are if there is one part.

    Args:
        batch: a round.
        epochs: passes.
        parts: of an epoch, of sizes that differ by one prompt at most; no more than there are prompts.
        generator: of the order.
    """
    prompts = len(batch.tokens) // batch.group_size
    for _ in range(epochs):
        if min(parts, prompts) == 1:
            yield batch
            continue
        order = torch.randperm(prompts, generator=generator, device=generator.device).to(batch.tokens.device)
        for prompts_B in order.tensor_split(min(parts, prompts)):
            yield batch.groups(prompts_B)
