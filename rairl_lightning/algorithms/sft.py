"""The baseline SFT: the policy learns the demonstrations by heart, and no reward is learnt."""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch.cli import OptimizerCallable

from rairl_lightning.algorithms.optimisation import adamw
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.components.schedules import Constant, Schedule
from rairl_lightning.errors import ConfigError
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.types import TokenBatch, TrainBatch


class SFT(RoundsModule):
    """Supervised fine-tuning on the completions of the demonstrations, which keeps its best selection epoch.

    Its keys are those of R-AIRL's SFT initialisation, with the same meaning, so that overlays fit both.

    Args:
        pair: how policy and reference are made; its discriminator is not loaded.
        sampler: draws completions from the policy, for validation.
        sft: epochs, patience and what chooses the epoch; at least one epoch.
        sft_optimizer: over the policy's trainable parameters.
        sft_schedule: learning-rate factor over all epochs.
        gradient_clip: largest gradient norm, > 0.
        max_tokens_per_microbatch: padded tokens in the model at once; bounds memory, changes no gradient.
        seed: of sampling and dropout.

    Raises:
        ConfigError: there is no epoch.
    """

    short_name: ClassVar[str] = "sft"

    def __init__(
        self,
        pair: PairSpec,
        sampler: Sampler,
        sft: SFTInitialisation = SFTInitialisation(epochs=10),
        sft_optimizer: OptimizerCallable = adamw,
        sft_schedule: Schedule = Constant(),
        gradient_clip: float = 1.0,
        max_tokens_per_microbatch: int = 16384,
        seed: int = 0,
    ) -> None:
        super().__init__(
            sft,
            Warmup(0),
            rounds=0,
            pair=pair,
            sampler=sampler,
            factories={"sft": (sft_optimizer, sft_schedule)},
            gradient_clip=gradient_clip,
            max_tokens_per_microbatch=max_tokens_per_microbatch,
            seed=seed,
        )
        if sft.epochs < 1:
            raise ConfigError("SFT has nothing to do.", expected="sft.epochs >= 1", got=sft.epochs)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, TokenBatch]:
        """One step on a batch of demonstrations."""
        self.clock.batches += 1
        return self.sft_step(batch)

    def planned_updates(self) -> dict[str, int]:
        """What the schedule spans."""
        return {"sft": self.sft_updates}
