"""The policy's side of a round: from what its traces are paid to its update. R-AIRL and GRPO call it alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.algorithms.losses import corrected, policy_losses
from rairl_lightning.algorithms.players import PlayersModule
from rairl_lightning.algorithms.requirements import require_one_kl
from rairl_lightning.algorithms.seen import SeenByPolicy
from rairl_lightning.algorithms.statistics import reward_statistics
from rairl_lightning.components import Advantage, PolicyLoss, RewardPenalty, SamplerCorrection
from rairl_lightning.functional.advantages import trajectory_mean
from rairl_lightning.types import Rollouts


@dataclass(frozen=True)
class PolicyObjective:
    """What the policy is trained for.

    Attributes:
        loss: what it minimises.
        advantage: how rewards become advantages.
        reward_penalty: what is taken from the rewards before.
        correction: of advantages, where sampler and trainer differ.

    Raises:
        ConfigError: the KL to the reference counts twice.
    """

    loss: PolicyLoss
    advantage: Advantage
    reward_penalty: RewardPenalty
    correction: SamplerCorrection

    def __post_init__(self) -> None:
        require_one_kl(self.reward_penalty, self.loss)


def penalised(module: PlayersModule, penalty: RewardPenalty, rewards_NT: Tensor, rollouts: Rollouts) -> Tensor:
    """What the policy is paid in a round: the rewards less the penalty, ``[N, T]``; logs the penalty.

    Args:
        module: with the policy and the reference.
        penalty: what is taken.
        rewards_NT: ``[N, T]`` of every completion token.
        rollouts: N traces with the log-probabilities they were sampled with.
    """
    tokens, reference_NT = rollouts.tokens, None
    if penalty.needs_reference:
        reference, temperature = module.models.reference, module.sampler.temperature
        reference_NT = reference.score(tokens, module.max_tokens_per_microbatch, temperature).logprobs
    paid_NT = penalty(rewards_NT, rollouts.logprobs, reference_NT, tokens.completion_mask)
    module.log("reward/penalty", float(trajectory_mean(rewards_NT - paid_NT, tokens.completion_mask).mean()))
    return paid_NT


def improve_policy(
    module: PlayersModule,
    objective: PolicyObjective,
    rollouts: Rollouts,
    paid_NT: Tensor,
    grid_NT: Tensor | None = None,
) -> None:
    """Update the policy on a round's traces, and log what was paid and what was done.

    Args:
        module: whose policy moves.
        objective: what it is trained for.
        rollouts: N traces, whole groups.
        paid_NT: ``[N, T]`` reward of every completion token, less the penalty.
        grid_NT: ``[N, T]`` bool, where the reward was read; None for all completion tokens.
    """
    mask_NT, size = rollouts.tokens.completion_mask, rollouts.group_size
    update_policy(module, objective, rollouts, objective.advantage(paid_NT, mask_NT, size, grid_NT))
    module.log_dict(reward_statistics(paid_NT, mask_NT, size))


def update_policy(module: PlayersModule, objective: PolicyObjective, rollouts: Rollouts, advantages_NT: Tensor) -> None:
    """One update on the round's traces; there is only one, so they are on-policy."""
    limit, temperature, seen = module.max_tokens_per_microbatch, module.sampler.temperature, SeenByPolicy()
    with module.stopwatch("policy", int(rollouts.tokens.attention_mask.sum())):
        old_NT, factors_NT = corrected(module.models.policy, objective.correction, rollouts, temperature, limit)
        losses = policy_losses(
            module.models, objective.loss, rollouts, old_NT, factors_NT * advantages_NT, temperature, limit, seen
        )
        update = module.update_player("policy", losses)
    module.clock.policy_updates += 1
    module.log_update("policy", update)
    module.log_dict(seen.statistics())
