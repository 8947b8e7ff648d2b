"""The discriminator's AUROC on prompts it does not train on: what opens and, later, watches the adversarial phase."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.algorithms.requirements import require_reward
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.reranking import reward_auroc
from rairl_lightning.evaluation.sampling import Answered, answer_questions
from rairl_lightning.module import RAIRL


class DiscriminatorProbe(Callback):
    """Sets ``clock.heldout_auroc`` and logs ``discriminator/heldout_auroc``.

    It is the probability that a rollout on a selection prompt whose answer agrees with the demonstration's is paid
    more than one whose answer does not. While the policy is frozen the rollouts are sampled once. Nothing is set or
    logged where only one of the two kinds was sampled, or where a reward is not finite.

    Args:
        every_n_updates: discriminator updates between two measurements, >= 1; a round counts as one at least, so that
            a discriminator that pauses is measured too.
        questions: most selection prompts, >= 1.
        samples: rollouts of each, >= 1.
        seed: of the rollouts.
    """

    measures_heldout_auroc = True  # the module asks, where its update budget follows the AUROC

    def __init__(self, every_n_updates: int = 30, questions: int = 64, samples: int = 4, seed: int = 0) -> None:
        if min(every_n_updates, questions, samples) < 1:
            raise ConfigError(
                "DiscriminatorProbe cannot run with these settings.",
                expected="every_n_updates, questions, samples >= 1",
                got=f"{every_n_updates}, {questions}, {samples}",
            )
        self.every_n_updates, self.questions, self.samples, self.seed = every_n_updates, questions, samples, seed
        self._warmup_answers: Answered | None = None
        self._measured_at, self._measured_in_round = 0, 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a baseline, which has nothing to measure."""
        require_reward(pl_module, self)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure where it is due."""
        if not isinstance(pl_module, RAIRL) or pl_module.clock.phase is Phase.SFT:
            return
        updates, rounds = pl_module.clock.discriminator_updates, pl_module.clock.round
        if max(updates - self._measured_at, rounds - self._measured_in_round) >= self.every_n_updates:
            self._measured_at, self._measured_in_round = updates, rounds
            self._measure(trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        """When it was last measured, so that a resumed run measures when an uninterrupted one would."""
        return {"measured_at": self._measured_at, "measured_in_round": self._measured_in_round}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._measured_at, self._measured_in_round = state_dict["measured_at"], state_dict["measured_in_round"]

    def _measure(self, trainer: Trainer, module: RAIRL) -> None:
        with trainer.precision_plugin.forward_context():  # as in training; callbacks run outside of it
            answered = self._answers(trainer, module)
            rewards_N = module.trace_rewards(answered.rollouts.tokens)
        if not rewards_N.isfinite().all():  # no ranking; the updates say so too, and Health may still mend it
            return
        area = reward_auroc(answered.per_question(rewards_N), answered.correct_QN)
        if not math.isnan(area):  # NaN: all rollouts right, or all wrong; nothing was learnt about D
            module.clock.heldout_auroc = area
            log_once(trainer, module, {"discriminator/heldout_auroc": area})

    def _answers(self, trainer: Trainer, module: RAIRL) -> Answered:
        frozen = module.clock.phase is Phase.WARMUP
        if frozen and self._warmup_answers is not None:
            return self._warmup_answers
        questions = trainer.datamodule.examples("selection")[: self.questions]  # type: ignore[attr-defined]
        if not questions:
            raise ConfigError(
                "DiscriminatorProbe has no prompts to measure on.",
                expected="a selection split",
                got="none",
                remedy="set selection_fraction above 0 in data.source, or remove the callback",
            )
        policy, sampler, codec = module.models.policy, module.sampler, module.codec
        answered = answer_questions(policy, sampler, codec, questions, self.samples, seed=self.seed)
        self._warmup_answers = answered if frozen else None
        return answered
