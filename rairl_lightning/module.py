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

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import AdamW, Optimizer

from rairl_lightning.algorithms.base import STATE_KEY, PairModule
from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.algorithms.losses import Seen, discriminator_losses, policy_losses
from rairl_lightning.algorithms.optimisation import Player, Update
from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.sft import BestEpoch, sft_losses
from rairl_lightning.algorithms.statistics import reward_statistics, rollout_statistics
from rairl_lightning.components import (
    Advantage,
    AnswerAgreement,
    BinaryCrossEntropy,
    ClippedLogit,
    ClippedSurrogate,
    DiscriminatorLoss,
    Granularity,
    GroupNormalised,
    Interval,
    Labelling,
    PolicyLoss,
    Reward,
)
from rairl_lightning.components.schedules import Constant, CosineWithWarmup, Schedule
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.advantages import trajectory_mean
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.text.answers import answers_agree, extract_answer
from rairl_lightning.types import Rollouts, TokenBatch, TrainBatch


def _adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=1e-6, betas=(0.9, 0.99), weight_decay=0.1)


class RAIRL(PairModule):
    """Reasoning Adversarial Inverse Reinforcement Learning.

    Args:
        pair: how policy, discriminator and reference are made: ``SharedBase``, ``TwoBackbones``, ``FullFineTuning``.
        sampler: draws completions from the policy.
        granularity: where the reward is read: ``Sparse``, ``Interval``, ``Step``, ``Dense``.
        labelling: which rollouts are positives: ``AnswerAgreement``, ``ExpertsOnly``.
        discriminator_loss: what the discriminator minimises.
        reward: how its logits pay the policy.
        advantage: how rewards become advantages.
        policy_loss: what the policy minimises.
        group_size: samples of each prompt (G), >= 1.
        rounds: adversarial rounds (paper: 500), >= 0.
        discriminator_updates: updates of the discriminator a round (k; paper: 3), >= 1.
        discriminator_batch: traces an update draws, half of them positive; null takes all of the round.
        sft: optional SFT initialisation.
        warmup: discriminator updates before the policy moves.
        policy_optimizer: over the policy's trainable parameters (paper: AdamW, betas 0.9 and 0.99, decay 0.1).
        discriminator_optimizer: likewise for adapter and head of the discriminator.
        sft_optimizer: for the SFT initialisation.
        policy_schedule: learning-rate factor over ``rounds`` updates.
        discriminator_schedule: learning-rate factor over warm-up and ``rounds * discriminator_updates`` updates.
        sft_schedule: learning-rate factor in the SFT initialisation.
        gradient_clip: largest gradient norm of either player (paper: 1.0), > 0.
        max_tokens_per_microbatch: padded tokens in a model at once; bounds memory, changes no gradient.
        seed: of sampling and of drawing discriminator batches.
    """

    def __init__(  # noqa: PLR0913  one argument, one key of the YAML
        self,
        pair: PairSpec,
        sampler: Sampler,
        granularity: Granularity = Interval(),
        labelling: Labelling = AnswerAgreement(),
        discriminator_loss: DiscriminatorLoss = BinaryCrossEntropy(),
        reward: Reward = ClippedLogit(),
        advantage: Advantage = GroupNormalised(),
        policy_loss: PolicyLoss = ClippedSurrogate(),
        group_size: int = 8,
        rounds: int = 500,
        discriminator_updates: int = 3,
        discriminator_batch: int | None = None,
        sft: SFTInitialisation = SFTInitialisation(),
        warmup: Warmup = Warmup(),
        policy_optimizer: OptimizerCallable = _adamw,
        discriminator_optimizer: OptimizerCallable = _adamw,
        sft_optimizer: OptimizerCallable = _adamw,
        policy_schedule: Schedule = CosineWithWarmup(),
        discriminator_schedule: Schedule = CosineWithWarmup(),
        sft_schedule: Schedule = Constant(),
        gradient_clip: float = 1.0,
        max_tokens_per_microbatch: int = 16384,
        seed: int = 0,
    ) -> None:
        super().__init__(pair, sampler, max_tokens_per_microbatch, seed)
        if min(group_size, discriminator_updates) < 1 or rounds < 0 or gradient_clip <= 0:
            raise ConfigError(
                "R-AIRL cannot run with these settings.",
                expected="group_size, discriminator_updates >= 1; rounds >= 0; gradient_clip > 0",
                got=f"{group_size}, {discriminator_updates}; {rounds}; {gradient_clip}",
            )
        if discriminator_batch is not None and discriminator_batch < 2:
            raise ConfigError(
                "A discriminator update needs traces of both classes.",
                expected="discriminator_batch >= 2, or null for all of the round",
                got=discriminator_batch,
            )
        self.granularity, self.labelling, self.reward, self.advantage = granularity, labelling, reward, advantage
        self.discriminator_loss, self.policy_loss = discriminator_loss, policy_loss
        self.group_size, self.rounds = group_size, rounds
        self.discriminator_updates, self.discriminator_batch = discriminator_updates, discriminator_batch
        self.sft, self.warmup, self.gradient_clip = sft, warmup, gradient_clip
        self.factories = {
            "policy": (policy_optimizer, policy_schedule),
            "discriminator": (discriminator_optimizer, discriminator_schedule),
            "sft": (sft_optimizer, sft_schedule),
        }
        self.best_epoch = BestEpoch(sft.patience)
        self.players: dict[str, Player] = {}
        self.clock.phase = self._first_phase()

    # The algorithm ---------------------------------------------------------------------------------------------

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, TokenBatch]:
        """One round, or one step of the SFT initialisation; returns the negatives to be replayed."""
        self.clock.batches += 1
        if self.clock.phase is Phase.SFT:
            return self.sft_step(batch)
        rollouts = self.sample(batch, self.group_size)  # G traces a prompt
        positive_N = self.label(batch, rollouts)  # expert is one
        self.update_discriminator(LabelledTraces.of_round(batch, rollouts, positive_N, self.codec.pad_id))
        if self.clock.phase is Phase.ADVERSARIAL:
            with self.stopwatch("score", int(rollouts.tokens.attention_mask.sum())):
                rewards_NT = self.rewards(rollouts.tokens)
            mask_NT = rollouts.tokens.completion_mask
            self.update_policy(rollouts, self.advantage(rewards_NT, mask_NT, self.group_size))
            self.log_dict(reward_statistics(rewards_NT, mask_NT, self.group_size))
        self.log_dict(self.stopwatch.metrics())
        self.advance()
        return {"negatives": rollouts.tokens.select(torch.nonzero(~positive_N).flatten()).to("cpu")}

    def label(self, batch: TrainBatch, rollouts: Rollouts) -> Tensor:
        """Which rollouts are positives, ``[N]`` bool; logs how the rollouts look."""
        answers = [extract_answer(text) for text in rollouts.texts]
        experts = [demonstration.answer for demonstration in batch.demonstrations for _ in range(self.group_size)]
        agreement_N = AnswerAgreement()(answers, experts, answers_agree)
        self.log_dict(rollout_statistics(rollouts, agreement_N))
        return self.labelling(answers, experts, answers_agree).to(self.device)

    def update_discriminator(self, labelled: LabelledTraces) -> None:
        """Update k times, each on its own draw; the AUROC logged is that of the first draw, before it was learnt."""
        generator = self.generator("discriminator")
        for number in range(self.discriminator_updates):
            drawn = labelled.draw(self.discriminator_batch, generator)
            seen = Seen()
            losses = discriminator_losses(
                self.models.discriminator,
                self.discriminator_loss,
                self.granularity,
                drawn,
                self.max_tokens_per_microbatch,
                seen,
            )
            with self.stopwatch("discriminator", int(drawn.tokens.attention_mask.sum())):
                update = self._update("discriminator", losses)
            self.clock.discriminator_updates += 1
            if number == 0:
                self.log_update("discriminator", update)
                self.log_dict({f"discriminator/{name}": value for name, value in seen.statistics().items()})

    def logits(self, tokens: TokenBatch) -> Tensor:
        """The discriminator's logits, ``[N, T]``, high for experts; without gradient."""
        return self.models.discriminator.score(tokens, self.max_tokens_per_microbatch)

    def rewards(self, tokens: TokenBatch) -> Tensor:
        """Reward of every completion token, ``[N, T]``, 0 elsewhere; without gradient."""
        return self.reward(self.logits(tokens), self.granularity(tokens), tokens)

    def trace_rewards(self, tokens: TokenBatch) -> Tensor:
        """Reward of each trace, ``[N]``: the mean over its completion, as in the advantage."""
        return trajectory_mean(self.rewards(tokens), tokens.completion_mask)

    def update_policy(self, rollouts: Rollouts, advantages_NT: Tensor) -> None:
        """One update; the rollouts are on-policy, so the sampler's log-probabilities are the old ones."""
        totals: dict[str, Tensor] = {}
        losses = policy_losses(
            self.models,
            self.policy_loss,
            rollouts,
            advantages_NT,
            self.sampler.temperature,
            self.max_tokens_per_microbatch,
            totals,
        )
        with self.stopwatch("policy", int(rollouts.tokens.attention_mask.sum())):
            update = self._update("policy", losses)
        self.clock.policy_updates += 1
        self.log_update("policy", update)
        weight = totals.pop("weight")
        self.log_dict({f"policy/{name}": float(total / weight) for name, total in totals.items()})

    # SFT initialisation and phases -----------------------------------------------------------------------------

    def sft_step(self, batch: TrainBatch) -> dict[str, TokenBatch]:
        """One supervised step on the batch's demonstrations; nothing to replay."""
        with self.stopwatch("sft", int(batch.experts.attention_mask.sum())):
            losses = sft_losses(self.models.policy, batch.experts, self.max_tokens_per_microbatch)
            self.log_update("sft", self._update("sft", losses))
        self.log_dict(self.stopwatch.metrics())
        return {}

    def on_train_epoch_end(self) -> None:
        """Close an epoch of the SFT initialisation, and the phase with its last."""
        if self.clock.phase is not Phase.SFT:
            return
        self.clock.sft_epoch += 1
        metric = f"selection/{self.sft.monitor}"
        if metric not in self.trainer.callback_metrics:
            raise ConfigError(
                f"The SFT initialisation chooses its epoch by {metric}, which was not computed.",
                expected="a validation after every epoch",
                remedy="set trainer.check_val_every_n_epoch: 1 and trainer.limit_val_batches above 0",
            )
        self.best_epoch.offer(float(self.trainer.callback_metrics[metric]), self.models.adapter_state("policy"))
        if self.best_epoch.exhausted or self.clock.sft_epoch >= self.sft.epochs:
            self.models.load_adapter_state("policy", self.best_epoch.state)
            self.models.anchor_reference()
            self.clock.phase = self._phase_after_sft()
            self._stop_if_over()

    def on_train_start(self) -> None:
        """A finished run that is resumed, and one without rounds, has nothing to do."""
        self._stop_if_over()

    def advance(self) -> None:
        """Count the round, change the phase where it is due, stop after the last round."""
        if self.clock.phase is Phase.ADVERSARIAL:
            self.clock.round += 1
        elif self.warmup.is_over(self.clock.discriminator_updates, self.clock.heldout_auroc):
            self.clock.phase = Phase.ADVERSARIAL
        self._stop_if_over()
        self.log("round", float(self.clock.round))

    def _stop_if_over(self) -> None:
        over = self.clock.phase is Phase.ADVERSARIAL and self.clock.round >= self.rounds
        self.trainer.should_stop = self.trainer.should_stop or over

    @property
    def position(self) -> tuple[int, int]:
        """How far the present phase is: (done, total) SFT epochs, discriminator updates or rounds."""
        return {
            Phase.SFT: (self.clock.sft_epoch, self.sft.epochs),
            Phase.WARMUP: (self.clock.discriminator_updates, self.warmup.updates),
            Phase.ADVERSARIAL: (self.clock.round, self.rounds),
        }[self.clock.phase]

    def _first_phase(self) -> Phase:
        return Phase.SFT if self.sft.epochs else self._phase_after_sft()

    def _phase_after_sft(self) -> Phase:
        return Phase.WARMUP if self.warmup.updates else Phase.ADVERSARIAL

    # Optimisation ----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """One optimiser and one schedule a player, and one for the SFT initialisation; stepped by us alone."""
        updates = {
            "policy": self.rounds,
            "discriminator": self.warmup.updates + self.rounds * self.discriminator_updates,
            "sft": self.sft.epochs * self._batches_an_epoch() if self.sft.epochs else 0,
        }
        for name, (factory, schedule) in self.factories.items():
            parameters = self.models.trainable_parameters("discriminator" if name == "discriminator" else "policy")
            self.players[name] = Player.build(name, parameters, factory, schedule, updates[name], self.gradient_clip)
        return [p.optimizer for p in self.players.values()], [p.scheduler for p in self.players.values()]

    def _batches_an_epoch(self) -> int:
        # Lightning counts later; making it count now (estimated_stepping_batches) loses the data position on resume.
        return len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]

    def _update(self, name: str, losses: Iterator[Tensor]) -> Update:
        return self.players[name].update(losses, self.manual_backward, lambda: self._step(name))

    def _step(self, name: str) -> None:
        """Take the step; only the policy's are counted in Lightning's ``global_step``."""
        if name == "discriminator":
            self.trainer.strategy.optimizer_step(self.players[name].optimizer, lambda: None, model=self)
        else:
            optimizers = cast(list[LightningOptimizer], self.optimizers())
            optimizers[list(self.players).index(name)].step()

    # Checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the best epoch of the SFT initialisation while it is still being looked for."""
        super().on_save_checkpoint(checkpoint)
        if self.clock.phase is Phase.SFT:
            checkpoint[STATE_KEY]["best_epoch"] = self.best_epoch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` added."""
        super().on_load_checkpoint(checkpoint)
        if "best_epoch" in checkpoint[STATE_KEY]:
            self.best_epoch.load_state_dict(checkpoint[STATE_KEY]["best_epoch"])
