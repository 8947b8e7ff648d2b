"""The parts of the ablation's runs: one task, one backbone, one setting of each algorithm.

Everything was chosen on problems of another seed of the task (none of which comes here again). All weights are trained
(``FullFineTuning``): the backbone is tiny.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from torch.optim import AdamW, Optimizer

from rairl_lightning.algorithms.grpo import GRPO
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.algorithms.sft import SFT
from rairl_lightning.components import (
    AnswerAgreement,
    AnswerAndFormat,
    BinaryCrossEntropy,
    ClippedSurrogate,
    Constant,
    CosineWithWarmup,
    Critic,
    Dense,
    DiscriminatorLoss,
    ExpertsOnly,
    Fixed,
    GradientPenalty,
    Granularity,
    GroupNormalised,
    Hinge,
    Interval,
    Pairwise,
    PerPosition,
    ReadF,
    SingleHead,
    Sparse,
    Step,
    TwoHead,
    UnitGradient,
    Wasserstein,
)
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.data.demonstrations import Arithmetic
from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning, HeadSpec, LinearHead, TwoHeads
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler
from rairl_lightning.text import perturbations as kinds

BASE = "builtin:dials"
SAMPLER = HFSampler(max_new_tokens=96)
INTERVAL = 5  # tokens
MICROBATCH = 2048  # tokens; larger ones leave the cache and were a quarter slower

# The discriminator is trained on some kinds, and has to locate all others that apply to this task.
TRAINED = (
    kinds.OperatorFlip(),
    kinds.NumberCorruption(),
    kinds.NudgedAnswer(),
    kinds.CarriedSlip(),
    kinds.WrongOperand(),
    kinds.StrayOperand(),
)
UNSEEN = (
    kinds.SwappedOperands(),
    kinds.SwappedQuantities(),
    kinds.WrongEntity(),
    kinds.DirectionFlip(),
    kinds.DroppedStep(),
    kinds.ReorderedSteps(),
    kinds.BorrowedStep(),
)

GRANULARITIES: dict[str, Granularity] = {
    "sparse": Sparse(),
    "interval": Interval(INTERVAL),
    "step": Step(),
    "dense": Dense(),
}
# A head, and the critic that reads it. A new head must learn faster than the backbone, or the one stands still or the
# other forgets what it knew.
FASTER = 20.0
HEADS: dict[str, tuple[HeadSpec, Critic]] = {
    "linear": (LinearHead(), SingleHead(head_lr_factor=FASTER)),
    "expectation": (ExpectationHead(), SingleHead(head_lr_factor=FASTER)),
    "two-head": (TwoHeads(ExpectationHead(), ExpectationHead()), TwoHead(head_lr_factor=FASTER)),
    "two-head paid f": (
        TwoHeads(ExpectationHead(), ExpectationHead()),
        TwoHead(read_out=ReadF(), head_lr_factor=FASTER),
    ),
    "no hidden state": (ExpectationHead(use_hidden=False), SingleHead(head_lr_factor=FASTER)),
    "no product": (ExpectationHead(use_product=False), SingleHead(head_lr_factor=FASTER)),
    "no log-probability": (ExpectationHead(use_logprob=False), SingleHead(head_lr_factor=FASTER)),
    "no running minimum": (ExpectationHead(use_running_min=False), SingleHead(head_lr_factor=FASTER)),
}
LOSSES: dict[str, tuple[DiscriminatorLoss, GradientPenalty | None]] = {
    "bce": (BinaryCrossEntropy(), None),
    "wasserstein": (Wasserstein(), UnitGradient()),  # which has no minimum without a penalty
    "hinge": (Hinge(), None),
    "pairwise": (Pairwise(), None),
}

# One setting changed, of the dense discriminator with the expectation head and the cross-entropy.
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "experts only": {"labelling": ExpertsOnly()},
    "no perturbations": {"perturbed_share": 0.0},
    "two thirds perturbed": {"perturbed_share": 2 / 3},
    "half the batch": {"discriminator_batch": 24},
    "mean over positions": {"discriminator_loss": BinaryCrossEntropy(reduction=PerPosition())},
    "no smoothing": {"discriminator_loss": BinaryCrossEntropy(label_smoothing=0.0)},
}


@dataclass(frozen=True)
class Scale:
    """How much is done; the same code whether it is for the table or only to see that it runs."""

    demonstrations: int = 128
    selection: int = 256
    test: int = 768
    sft_epochs: int = 12
    pool_questions: int = 160
    selection_rollouts: int = 8
    pool_rollouts: int = 24
    best_of: int = 16
    corrupted: int = 256
    samples: int = 4
    discriminator_updates: int = 72
    rounds: int = 200
    continued_epochs: int = 60


FULL = Scale()
SMOKE = Scale(16, 16, 16, 1, 4, 4, 8, 4, 16, 1, 6, 2, 1)
PROMPTS, GROUP = 16, 8
POLICY_RATE = 2e-4
POLICY_LOSS = ClippedSurrogate(kl_coef=0.0)
POLICY_SCHEDULE = CosineWithWarmup(warmup=0.03, floor=0.1)


def data(scale: Scale, seed: int) -> DemonstrationDataModule:
    """Chains of 4 to 6 operations, on which the base is right in 2 of 10 samples; ``seed`` orders the prompts."""
    return DemonstrationDataModule(
        Arithmetic(
            scale.demonstrations, scale.selection, scale.test, min_steps=4, max_steps=6, max_distractors=3, seed=1
        ),
        batch_size=PROMPTS,
        eval_batch_size=128,
        perturbations=list(TRAINED),
        perturbed_copies=2,
        replayed=32,
        replay_rounds=20,
        max_prompt_tokens=200,
        max_completion_tokens=128,
        seed=seed,
    )


def adamw(rate: float) -> Callable[[Any], Optimizer]:
    """With the paper's betas."""
    return lambda parameters: AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)


def trainer(folder: Path, *callbacks: Callback, validate: bool = False) -> Trainer:
    """Ends when the module says so."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validate else 0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )


def pair(backbone: str) -> FullFineTuning:
    """Of a baseline."""
    return FullFineTuning(BackboneSpec(backbone))


def sft(backbone: str, seed: int, *, epochs: int) -> SFT:
    """Keeps the epoch with the best greedy pass@1 on the selection split."""
    return SFT(
        pair(backbone),
        SAMPLER,
        SFTInitialisation(epochs=epochs, patience=epochs, monitor="pass@1"),
        sft_optimizer=adamw(5e-4),
        sft_schedule=CosineWithWarmup(warmup=0.05, floor=0.1),
        max_tokens_per_microbatch=MICROBATCH,
        seed=seed,
    )


def grpo(scale: Scale, backbone: str, seed: int) -> GRPO:
    """With the verifiable reward: the answer's, and a little for the form."""
    return GRPO(
        pair(backbone),
        SAMPLER,
        AnswerAndFormat(),
        advantage=GroupNormalised(),
        policy_loss=POLICY_LOSS,
        group_size=GROUP,
        rounds=scale.rounds,
        policy_optimizer=adamw(POLICY_RATE),
        policy_schedule=POLICY_SCHEDULE,
        max_tokens_per_microbatch=MICROBATCH,
        seed=seed,
    )


def rairl(
    scale: Scale, backbone: str, seed: int, *, granularity: str, head: str, loss: str, warm: bool, variant: str = ""
) -> RAIRL:
    """R-AIRL.

    Args:
        scale: how much is done.
        backbone: of both players.
        seed: of sampling and of drawing discriminator batches.
        granularity: of the reward.
        head: of the discriminator, with its critic.
        loss: of the discriminator.
        warm: whether the discriminator has had its warm-up; if not, the warm-up is all there is.
        variant: the setting that is changed.
    """
    (spec, critic), (cost, penalty) = HEADS[head], LOSSES[loss]
    attention = "eager" if penalty is not None and penalty.differentiates_twice else None
    varied = {
        "labelling": AnswerAgreement(),
        "discriminator_loss": cost,
        "discriminator_batch": 48,
        "perturbed_share": 1 / 3,
    } | VARIANTS[variant]
    return RAIRL(
        FullFineTuning(BackboneSpec(backbone, attn_implementation=attention), spec),
        SAMPLER,
        GRANULARITIES[granularity],
        critic=critic,
        discriminator_penalty=penalty,
        advantage=GroupNormalised(),
        policy_loss=POLICY_LOSS,
        group_size=GROUP,
        rounds=scale.rounds if warm else 0,
        discriminator_updates=Fixed(1 if warm else 3),
        warmup=Warmup(0 if warm else scale.discriminator_updates),
        policy_optimizer=adamw(POLICY_RATE),
        discriminator_optimizer=adamw(3e-5 if warm else 1e-4),
        policy_schedule=POLICY_SCHEDULE,
        discriminator_schedule=Constant() if warm else CosineWithWarmup(warmup=0.1, floor=0.1),
        max_tokens_per_microbatch=MICROBATCH,
        seed=seed,
        **varied,
    )
