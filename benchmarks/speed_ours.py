"""Our side of a comparison, one process: ``python benchmarks/speed_ours.py WORK.json RESULT.json``."""

from __future__ import annotations

import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

import torch
from lightning import Callback, Trainer
from speed_machine import peak_memory_mb, seconds, synchronise
from speed_parts import ALGORITHMS, Given, pair, sampler
from speed_work import TINY_TOKENS, Result, Work

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.text.perturbations import NudgedAnswer, NumberCorruption, OperatorFlip
from rairl_lightning.types import Rollouts, TrainBatch

ANY_LENGTH = 10**6
COUNTS = ("seconds", "generated", "trained", "trained_completion", "lengths")


class Clock(Callback):
    """Times whole rounds; the first, which samples few tokens, is not counted.

    Args:
        work: what is done.
    """

    def __init__(self, work: Work) -> None:
        self.work, self.started = work, False
        self.heard: Rollouts | None = None
        self.counts: dict[str, list[Any]] = {name: [] for name in COUNTS}
        self.phases: dict[str, list[float]] = {}

    def on_fit_start(self, trainer: Trainer, module: RoundsModule) -> None:
        """Listen to what is sampled."""
        sample = module.sample

        def heard(batch: TrainBatch, group_size: int) -> Rollouts:
            self.heard = sample(batch, group_size)
            return self.heard

        module.sample = heard

    def on_train_batch_start(self, trainer: Trainer, module: RoundsModule, batch: TrainBatch, batch_idx: int) -> None:
        """Start."""
        synchronise(self.work.device)
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: RoundsModule, outputs: Any, batch: TrainBatch, batch_idx: int
    ) -> None:
        """Stop, and note what was done."""
        synchronise(self.work.device)
        taken = time.perf_counter() - self.began
        if not self.started:
            self.started = True
            if self.heard is not None:
                module.sampler = sampler(self.work, self.work.new_tokens)
            return
        sampled = self.heard is not None
        tokens = self.heard.tokens if self.heard is not None else batch.experts
        completion = int(tokens.completion_mask.sum())
        lengths = tokens.completion_lengths_N.tolist() if sampled else []
        values = (taken, sampled * completion, int(tokens.attention_mask.sum()), completion, lengths)
        for name, value in zip(COUNTS, values, strict=True):
            self.counts[name].append(value)
        for name, value in trainer.callback_metrics.items():
            if name.startswith("time/"):
                self.phases.setdefault(name.removeprefix("time/"), []).append(float(value))


def fit(work: Work) -> dict[str, Any]:
    """Train for the rounds asked for."""
    data = DemonstrationDataModule(
        Given(tuple(work.questions)),
        batch_size=len(work.questions),
        eval_batch_size=1,
        perturbations=[OperatorFlip(), NumberCorruption(), NudgedAnswer()],
        perturbed_copies=int(work.algorithm == "rairl"),
        replayed=0,
        max_prompt_tokens=ANY_LENGTH,  # what is too long was left out before
        max_completion_tokens=ANY_LENGTH,
    )
    clock = Clock(work)
    trainer = Trainer(
        accelerator="cpu" if work.device == "cpu" else "gpu",
        devices=1,
        precision="32-true" if work.device == "cpu" else "bf16-mixed",
        max_epochs=-1,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if work.algorithm == "sft" else 0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(ALGORITHMS[work.algorithm](work), datamodule=data)
    return {**clock.counts, "phases": clock.phases}


def sample_alone(work: Work) -> dict[str, Any]:
    """Sampling and nothing else; ``prefill`` is what one new token takes, prompt included."""
    models = pair(work).build(work.device, with_discriminator=False)
    prompts = [one.prompt_ids for one in work.questions]
    lengths: list[list[int]] = []

    def run(new_tokens: int, seed: int) -> float:
        generator = torch.Generator(device=work.device).manual_seed(seed)
        drawn: list[Rollouts] = []
        who = sampler(work, new_tokens)
        taken = seconds(
            lambda: drawn.append(who.sample(models.policy, prompts, work.group_size, models.codec, generator)),
            work.device,
        )
        lengths.append(drawn[0].tokens.completion_lengths_N.tolist())
        return taken

    run(TINY_TOKENS, 0)
    prefill = [run(1, seed) for seed in range(work.rounds)]
    whole = [run(work.new_tokens, seed) for seed in range(work.rounds)]
    counted = lengths[-work.rounds :]
    nothing = [0] * work.rounds
    return {
        "seconds": whole,
        "phases": {"prefill": prefill},
        "generated": [sum(one) for one in counted],
        "trained": nothing,
        "trained_completion": nothing,
        "lengths": counted,
    }


def measure(work: Work) -> Result:
    """Do the work in this process."""
    torch.manual_seed(work.seed)
    measured = sample_alone(work) if work.algorithm == "sampling" else fit(work)
    memory = peak_memory_mb(work.device)
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "lightning")}
    return Result(**measured, resident_mb=memory["resident"], device_mb=memory["device"], versions=packages)


def main() -> None:
    work = Work.read(sys.argv[1])
    torch.set_num_threads(work.threads)
    warnings.filterwarnings("ignore")
    measure(work).write(sys.argv[2])


if __name__ == "__main__":
    main()
