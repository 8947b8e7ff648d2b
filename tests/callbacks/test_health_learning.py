"""A collapse provoked on the built-in task, with Health and without. Minutes; see `make learning`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning import Callback

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import Health
from rairl_lightning.callbacks.health import Outcome
from rairl_lightning.components import ClippedSurrogate, Fixed
from rairl_lightning.data.demonstrations import Arithmetic
from rairl_lightning.evaluation.sampling import answer_questions
from rairl_lightning.models import BackboneSpec, ExpectationHead, LoRASpec, SharedBase
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler
from rairl_lightning.text.chat import parse_completion

RATE, TOO_HIGH = 1e-3, 30
SEEDS = (0,)  # run once with 0, 1 and 2


class Start(Callback):
    """Looks before anything has moved."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.figures = look(pl_module, trainer)


def look(module: RAIRL, trainer: Any) -> tuple[float, float]:
    """Pass@1 and format rate of 256 samples on test questions, at the temperature of training."""
    questions = trainer.datamodule.examples("test")
    answered = answer_questions(module.models.policy, module.sampler, module.codec, questions, 8, seed=1)
    texts = answered.rollouts.texts
    formed = sum(parse_completion(text).well_formed for text in texts) / len(texts)
    return float(answered.correct_QN.double().mean()), formed


def trained(folder: Path, seed: int, rate: float, *callbacks: Callback) -> tuple[list[float], Any]:
    """What is left of pass@1 and format rate, as shares of the start, and the trainer; without a KL."""
    torch.manual_seed(seed)
    lora = LoRASpec(8, 16)
    module = gates.module(
        SharedBase(BackboneSpec("builtin:dials"), lora, lora, ExpectationHead(8)),
        sampler=HFSampler(max_new_tokens=64),
        group_size=8,
        rounds=25,
        warmup=Warmup(18),
        discriminator_batch=24,
        discriminator_updates=Fixed(2),
        policy_optimizer=gates.optimizer(rate),
        discriminator_optimizer=gates.optimizer(2e-3),
        policy_loss=ClippedSurrogate(kl_coef=0.0),
        seed=seed,
    )
    data = gates.data(
        source=Arithmetic(train_size=64, selection_size=16, test_size=32, min_steps=2, max_steps=3, max_distractors=1),
        batch_size=4,
        perturbations=[],
        replayed=8,
        replay_rounds=20,
        max_prompt_tokens=160,
        max_completion_tokens=64,
        seed=seed,
    )
    start = Start()
    trainer = gates.trainer(folder, [start, *callbacks])
    trainer.fit(module, datamodule=data)
    assert start.figures[0] > 0.4 and start.figures[1] > 0.9, "the base can do it"
    return [end / begin for end, begin in zip(look(module, trainer), start.figures, strict=True)], trainer


def health() -> Health:
    return Health(every_n_rounds=5, confirm=4)


@pytest.mark.learning
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Health, ")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_provoked_collapse_is_caught_and_recovered(tmp_path: Path, seed: int) -> None:
    watcher = health()
    kept, trainer = trained(tmp_path, seed, TOO_HIGH * RATE, watcher)
    assert watcher.verdict is not None and watcher.verdict.outcome is Outcome.RECOVERED
    assert trainer.logger.having("policy/learning_rate")[-1] < TOO_HIGH * RATE * 0.31
    assert min(kept) >= 0.8, f"pass@1 and format rate, of the start: {kept}"


@pytest.mark.learning
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_without_health_the_same_run_is_lost(tmp_path: Path, seed: int) -> None:
    kept, _ = trained(tmp_path, seed, TOO_HIGH * RATE)
    assert max(kept) < 0.5, f"pass@1 and format rate, of the start: {kept}"


@pytest.mark.learning
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_thirtieth_of_the_rate_there_is_nothing_to_do(tmp_path: Path, seed: int) -> None:
    """Nor to warn of: a warning is an error here."""
    watcher = health()
    kept, _ = trained(tmp_path, seed, RATE, watcher)
    assert watcher.verdict is not None and watcher.verdict.outcome is Outcome.HEALTHY
    assert min(kept) >= 0.8
