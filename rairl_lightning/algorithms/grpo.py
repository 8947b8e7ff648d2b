"""The baseline GRPO (arXiv 2402.03300): the policy is paid by a verifier, which R-AIRL does without."""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from rairl_lightning.algorithms.optimisation import adamw
from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.policy_update import PolicyObjective, group_members, improve_policy, penalised
from rairl_lightning.algorithms.requirements import require_group
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.algorithms.statistics import agreement, rollout_statistics
from rairl_lightning.components import (
    Advantage,
    AnswerAndFormat,
    ClippedSurrogate,
    ExpertInGroup,
    GroupNormalised,
    NoExpert,
    NoPenalty,
    PolicyLoss,
    RewardPenalty,
    SamplerCorrection,
    Uncorrected,
    Verifier,
)
from rairl_lightning.components.schedules import Constant, CosineWithWarmup, Schedule
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.types import Rollouts, TokenBatch, TrainBatch


class GRPO(RoundsModule):
    """Group-relative policy optimisation with a verifiable reward: R-AIRL's policy side, without its discriminator.

    Every key means what it means for R-AIRL; what is compared is the reward.

    Args:
        pair: how policy and reference are made; its discriminator is not loaded.
        sampler: draws completions from the policy.
        verifier: what pays a trace: ``AnswerAndFormat``.
        reward_penalty: what is taken from it before it becomes an advantage: ``NoPenalty``, ``KLInReward``.
        advantage: how rewards become advantages; the reward is the same at every token of a trace.
        policy_loss: what the policy minimises.
        sampler_correction: of advantages, where sampler and trainer differ: ``Uncorrected``, ``TruncatedImportance``.
        expert_in_group: whether the demonstration is member G + 1 of its group in the policy's update: ``NoExpert``,
            ``SingleExpert``, ``BalancedExpert``.
        group_size: samples of each prompt (G), >= 1.
        rounds: of sampling and updating the policy, >= 0.
        policy_epochs: passes of the policy over a round, >= 1 (paper: 1).
        policy_minibatches: updates of a pass, each on the whole groups of some prompts, >= 1 (paper: 1).
        sft: optional SFT initialisation.
        policy_optimizer: over the policy's trainable parameters.
        sft_optimizer: for the SFT initialisation.
        policy_schedule: learning-rate factor over ``rounds · policy_epochs · policy_minibatches`` updates.
        sft_schedule: learning-rate factor in the SFT initialisation.
        gradient_clip: largest gradient norm, > 0.
        max_tokens_per_microbatch: padded tokens in a model at once; bounds memory, changes no gradient.
        seed: of sampling and dropout.
    """

    short_name: ClassVar[str] = "grpo"

    def __init__(  # noqa: PLR0913  one argument, one key of the YAML
        self,
        pair: PairSpec,
        sampler: Sampler,
        verifier: Verifier = AnswerAndFormat(),
        reward_penalty: RewardPenalty = NoPenalty(),
        advantage: Advantage = GroupNormalised(),
        policy_loss: PolicyLoss = ClippedSurrogate(),
        sampler_correction: SamplerCorrection = Uncorrected(),
        expert_in_group: ExpertInGroup = NoExpert(),
        group_size: int = 8,
        rounds: int = 500,
        policy_epochs: int = 1,
        policy_minibatches: int = 1,
        sft: SFTInitialisation = SFTInitialisation(),
        policy_optimizer: OptimizerCallable = adamw,
        sft_optimizer: OptimizerCallable = adamw,
        policy_schedule: Schedule = CosineWithWarmup(),
        sft_schedule: Schedule = Constant(),
        gradient_clip: float = 1.0,
        max_tokens_per_microbatch: int = 16384,
        seed: int = 0,
    ) -> None:
        super().__init__(
            sft,
            Warmup(0),
            rounds,
            pair=pair,
            sampler=sampler,
            factories={"policy": (policy_optimizer, policy_schedule), "sft": (sft_optimizer, sft_schedule)},
            gradient_clip=gradient_clip,
            max_tokens_per_microbatch=max_tokens_per_microbatch,
            seed=seed,
        )
        require_group(group_size)
        self.verifier, self.group_size = verifier, group_size
        self.policy_objective = PolicyObjective(
            policy_loss,
            advantage,
            reward_penalty,
            sampler_correction,
            expert_in_group,
            policy_epochs,
            policy_minibatches,
        )

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, TokenBatch]:
        """One round, or one step of the SFT initialisation; nothing to replay."""
        self.clock.batches += 1
        if self.clock.phase is Phase.SFT:
            return self.sft_step(batch)
        rollouts = self.sample(batch, self.group_size)  # G traces a prompt
        self.log_dict(rollout_statistics(rollouts, agreement(batch, rollouts)))
        members = group_members(self, self.policy_objective, batch, rollouts)
        with self.stopwatch("score", int(members.tokens.attention_mask.sum())):
            rewards_NT = self.rewards(batch, members.traces)
            paid_NT = penalised(self, self.policy_objective.reward_penalty, rewards_NT, members)
        improve_policy(self, self.policy_objective, members, paid_NT)
        self.log_dict(self.stopwatch.metrics())
        self.advance()
        return {}

    def rewards(self, batch: TrainBatch, traces: Rollouts) -> Tensor:
        """The verifier's reward of each trace at each of its completion tokens, ``[N, T]``, 0 elsewhere."""
        rewards_N = self.verifier(traces.texts, batch.repeated(traces.group_size)).to(self.device)
        return rewards_N.unsqueeze(1) * traces.tokens.completion_mask

    def title(self, phase: Phase) -> str:
        """No one is an adversary here."""
        return "rounds" if phase is Phase.ADVERSARIAL else super().title(phase)

    def planned_updates(self) -> dict[str, int]:
        """What the schedules span."""
        return {"policy": self.rounds * self.policy_objective.updates, "sft": self.sft_updates}
