"""R-AIRL (arXiv 2510.01857): learn a process reward from demonstrations, and improve the policy with it.

A round, as in the paper's box: sample G traces of each prompt; update the discriminator k times on experts against
policy; read its logits as the reward of every token; update the policy once with the group-normalised advantage.

Departures from the paper, each switched by the configuration:
1. an optional SFT initialisation of the policy, whose best epoch becomes the reference policy;
2. the warm-up may end once the discriminator's held-out AUROC is reached (``Warmup.until_auroc``);
3. a discriminator update may draw a part of the round's traces (``discriminator_batch``);
4. the replay holds only traces that were labelled negative, so that replay never contradicts label switching.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from rairl_lightning.algorithms.discriminator_update import update_discriminator
from rairl_lightning.algorithms.labelled import Draw, LabelledTraces
from rairl_lightning.algorithms.losses import Objective
from rairl_lightning.algorithms.optimisation import adamw
from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.policy_update import PolicyObjective, group_members, improve_policy, penalised
from rairl_lightning.algorithms.requirements import (
    require_attention,
    require_group,
    require_one_derivative,
    require_perturbed,
    require_probe,
)
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.algorithms.statistics import agreement, rollout_statistics
from rairl_lightning.components import (
    Advantage,
    AnswerAgreement,
    BinaryCrossEntropy,
    ClippedLogit,
    ClippedSurrogate,
    Critic,
    DiscriminatorLoss,
    ExpertInGroup,
    Fixed,
    GradientPenalty,
    Granularity,
    GroupNormalised,
    Interval,
    Labelling,
    NoExpert,
    NoPenalty,
    ParameterGroup,
    PolicyLoss,
    Pooling,
    Reward,
    RewardPenalty,
    RewardReader,
    SamplerCorrection,
    SingleHead,
    TokenWeighted,
    Uncorrected,
    UpdateBudget,
)
from rairl_lightning.components.schedules import Constant, CosineWithWarmup, Schedule
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.text.answers import answers_agree, extract_answer
from rairl_lightning.types import Demonstration, Rollouts, TokenBatch, TrainBatch


class RAIRL(RoundsModule):
    """Reasoning Adversarial Inverse Reinforcement Learning.

    Args:
        pair: how policy, discriminator and reference are made: ``SharedBase``, ``TwoBackbones``, ``FullFineTuning``.
        sampler: draws completions from the policy.
        granularity: where the reward is read: ``Sparse``, ``Interval``, ``Step``, ``Dense``.
        labelling: which rollouts are positives: ``AnswerAgreement``, ``ExpertsOnly``.
        critic: from the head's outputs to logit and pay: ``SingleHead``, or ``TwoHead`` with the head ``TwoHeads``.
        discriminator_loss: what the discriminator minimises.
        discriminator_penalty: on its gradient: ``UnitGradient``, ``R1Penalty``, ``ApproximateR1``, or null.
        reward: how the critic's pay becomes a reward.
        reward_penalty: what is taken from it before it becomes an advantage: ``NoPenalty``, ``KLInReward``.
        advantage: how rewards become advantages.
        policy_loss: what the policy minimises.
        sampler_correction: of advantages, where sampler and trainer differ: ``Uncorrected``, ``TruncatedImportance``.
        pooling: from the rewards of a trace to the one number that reranking and probes rank it by.
        expert_in_group: whether the demonstration is member G + 1 of its group in the policy's update: ``NoExpert``,
            ``SingleExpert``, ``BalancedExpert``.
        group_size: samples of each prompt (G), >= 1.
        rounds: adversarial rounds (paper: 500), >= 0.
        discriminator_updates: updates of the discriminator a round (k): ``Fixed`` (paper: 3), or ``AurocBand``, which
            needs a ``DiscriminatorProbe``.
        discriminator_batch: traces an update draws, half of them positive; null takes all of the round.
        perturbed_share: share of the drawn negatives that are perturbed demonstrations, in [0, 1]; null draws negatives
            of all kinds alike. What ``data.perturbed_copies`` makes bounds it; ``discriminator/perturbed_share`` says
            what it was.
        policy_epochs: passes of the policy over a round, >= 1 (paper: 1).
        policy_minibatches: updates of a pass, each on the whole groups of some prompts, >= 1 (paper: 1).
        sft: optional SFT initialisation.
        warmup: discriminator updates before the policy moves.
        policy_optimizer: over the policy's trainable parameters (paper: AdamW, betas 0.9 and 0.99, decay 0.1).
        discriminator_optimizer: likewise for adapter and head of the discriminator.
        sft_optimizer: for the SFT initialisation.
        policy_schedule: learning-rate factor over ``rounds · policy_epochs · policy_minibatches`` updates.
        discriminator_schedule: learning-rate factor over the warm-up's and ``rounds`` times the most updates.
        sft_schedule: learning-rate factor in the SFT initialisation.
        gradient_clip: largest gradient norm of either player (paper: 1.0), > 0.
        max_tokens_per_microbatch: tokens in a model at once; bounds memory, changes no gradient.
        seed: of sampling and of drawing discriminator batches.
    """

    short_name: ClassVar[str] = "rairl"
    learns_reward = True

    def __init__(  # noqa: PLR0913  one argument, one key of the YAML
        self,
        pair: PairSpec,
        sampler: Sampler,
        granularity: Granularity = Interval(),
        labelling: Labelling = AnswerAgreement(),
        critic: Critic = SingleHead(),
        discriminator_loss: DiscriminatorLoss = BinaryCrossEntropy(),
        discriminator_penalty: GradientPenalty | None = None,
        reward: Reward = ClippedLogit(),
        reward_penalty: RewardPenalty = NoPenalty(),
        advantage: Advantage = GroupNormalised(),
        policy_loss: PolicyLoss = ClippedSurrogate(),
        sampler_correction: SamplerCorrection = Uncorrected(),
        expert_in_group: ExpertInGroup = NoExpert(),
        pooling: Pooling = TokenWeighted(),
        group_size: int = 8,
        rounds: int = 500,
        discriminator_updates: UpdateBudget = Fixed(3),
        discriminator_batch: int | None = None,
        perturbed_share: float | None = None,
        policy_epochs: int = 1,
        policy_minibatches: int = 1,
        sft: SFTInitialisation = SFTInitialisation(),
        warmup: Warmup = Warmup(),
        policy_optimizer: OptimizerCallable = adamw,
        discriminator_optimizer: OptimizerCallable = adamw,
        sft_optimizer: OptimizerCallable = adamw,
        policy_schedule: Schedule = CosineWithWarmup(),
        discriminator_schedule: Schedule = CosineWithWarmup(),
        sft_schedule: Schedule = Constant(),
        gradient_clip: float = 1.0,
        max_tokens_per_microbatch: int = 16384,
        seed: int = 0,
    ) -> None:
        super().__init__(
            sft,
            warmup,
            rounds,
            pair=pair,
            sampler=sampler,
            factories={
                "policy": (policy_optimizer, policy_schedule),
                "discriminator": (discriminator_optimizer, discriminator_schedule),
                "sft": (sft_optimizer, sft_schedule),
            },
            gradient_clip=gradient_clip,
            max_tokens_per_microbatch=max_tokens_per_microbatch,
            seed=seed,
        )
        require_group(group_size)
        self.labelling, self.reader = labelling, RewardReader(critic, granularity, reward, pooling)
        self.objective = Objective(critic, granularity, discriminator_loss, discriminator_penalty)
        self.policy_objective = PolicyObjective(
            policy_loss,
            advantage,
            reward_penalty,
            sampler_correction,
            expert_in_group,
            policy_epochs,
            policy_minibatches,
        )
        self.discriminator_updates, self.draw = discriminator_updates, Draw(discriminator_batch, perturbed_share)
        self.group_size = group_size

    # The algorithm ---------------------------------------------------------------------------------------------

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, TokenBatch]:
        """One round, or one step of the SFT initialisation; returns the rollouts by label, for replay and probes."""
        self.clock.batches += 1
        if self.clock.phase is Phase.SFT:
            return self.sft_step(batch)
        rollouts = self.sample(batch, self.group_size)  # G traces a prompt
        positive_N = self.label(batch, rollouts)  # expert is one
        labelled = LabelledTraces.of_round(batch, rollouts, positive_N, self.codec.pad_id)
        update_discriminator(self, self.objective, self.draw, labelled, self._updates_due())  # k times
        if self.clock.phase is Phase.ADVERSARIAL:
            members = group_members(self, self.policy_objective, batch, rollouts)
            with self.stopwatch("score", int(members.tokens.attention_mask.sum())):
                rewards_NT = self.rewards(members.tokens)
                paid_NT = penalised(self, self.policy_objective.reward_penalty, rewards_NT, members)
            improve_policy(self, self.policy_objective, members, paid_NT, self.reader.granularity(members.tokens))
        self.log_dict(self.stopwatch.metrics())
        self.advance()
        parts = {"positives": positive_N, "negatives": ~positive_N}
        return {
            name: rollouts.tokens.select(torch.nonzero(rows_N).flatten()).to("cpu") for name, rows_N in parts.items()
        }

    def label(self, batch: TrainBatch, rollouts: Rollouts) -> Tensor:
        """Which rollouts are positives, ``[N]`` bool; logs how the rollouts look."""
        self.log_dict(rollout_statistics(rollouts, agreement(batch, rollouts)))
        answers = [extract_answer(text) for text in rollouts.texts]
        return self.labelling(answers, batch.answers(rollouts.group_size), answers_agree).to(self.device)

    def pay(self, tokens: TokenBatch) -> Tensor:
        """What the critic would pay, ``[N, T]`` on the grid, before tempering and clipping; without gradient."""
        if not len(tokens):  # without a trace nobody knows how many outputs the head has
            return torch.zeros(tokens.input_ids.shape, device=tokens.device)
        outputs = self.models.discriminator.score(tokens, self.max_tokens_per_microbatch)
        return self.reader.pay(outputs, tokens)

    def rewards(self, tokens: TokenBatch) -> Tensor:
        """Reward of every completion token, ``[N, T]``, 0 elsewhere; without gradient."""
        return self.reader.rewards(self.pay(tokens), tokens)

    def trace_rewards(self, tokens: TokenBatch) -> Tensor:
        """Reward of each trace, ``[N]``, pooled over its completion."""
        return self.reader.pooled(self.rewards(tokens), tokens)

    def parts(self) -> dict[str, object]:
        """Models and reader: what scoring needs."""
        return {**super().parts(), "reader": self.reader}

    # Start -----------------------------------------------------------------------------------------------------

    def _updates_due(self) -> int:
        """Updates of the discriminator in this round; in the warm-up, which must get on, as many as are expected."""
        if self.clock.phase is Phase.WARMUP:
            return self.updates_a_round
        return self.discriminator_updates.updates(self.clock.heldout_auroc)

    @property
    def updates_a_round(self) -> int:
        """As many as are expected."""
        return self.discriminator_updates.expected

    def parameter_groups(self, name: str) -> list[ParameterGroup]:
        """The critic says what of the discriminator has settings of its own."""
        if name != "discriminator":
            return super().parameter_groups(name)
        return self.reader.critic.parameter_groups(self.models.named_trainable_parameters("discriminator"))

    def planned_updates(self) -> dict[str, int]:
        """What the schedules span."""
        budget = self.discriminator_updates
        rounds = -(-self.warmup.updates // self.updates_a_round)  # whole ones
        warmup = rounds * self.updates_a_round
        discriminator = warmup + self.rounds * budget.most
        return {
            "policy": self.rounds * self.policy_objective.updates,
            "discriminator": discriminator,
            "sft": self.sft_updates,
        }

    def on_fit_start(self) -> None:
        """Refuse what only the whole configuration shows to be impossible."""
        super().on_fit_start()
        self.models.check_sharing()
        require_perturbed(self.draw.perturbed_share, self.trainer.datamodule)  # type: ignore[attr-defined]
        if self.discriminator_updates.needs_auroc or self.warmup.until_auroc is not None:
            require_probe(self.trainer.callbacks)  # type: ignore[attr-defined]
        if self.objective.penalty is not None:
            require_one_derivative(self.objective.penalty, self.models.policy.sharded)
            require_attention(self.objective.penalty, self.models.discriminator.attention)
        with self.trainer.precision_plugin.forward_context():  # a hook runs outside of it
            self.pay(self._trial())  # raises where critic and head do not fit

    def _trial(self) -> TokenBatch:
        """A trace as short as can be."""
        trace = self.codec.encode_demonstration(Demonstration("trial", "1 + 1", "2", "2"))
        return TokenBatch.from_traces([trace], self.codec.pad_id).to(self.device)
