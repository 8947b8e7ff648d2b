"""TRL's side of a comparison, one process: ``python benchmarks/speed_trl.py WORK.json RESULT.json``.

It loads nothing of ours but the questions and the clock, so that its memory is its own. Its settings are its fastest
reasonable ones here: no gradient checkpointing unless the work asks for it, logits where they are needed only, 32-bit
on a CPU, no reference pass where the KL's coefficient is 0.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from speed_generate import load, lora, sampling
from speed_machine import peak_memory_mb, seconds, synchronise
from speed_work import TINY_TOKENS, Result, Work
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

DIGITS = "0123456789"  # as in speed_questions, which would load what is ours


class Clock(TrainerCallback):
    """Times whole optimiser steps; the first is not counted.

    Args:
        device: to wait for.
        after_first: called once the first step is over.
    """

    def __init__(self, device: str, after_first: Callable[[], None] = lambda: None) -> None:
        self.device, self.after_first = device, after_first
        self.seconds: list[float] = []
        self.started = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        synchronise(self.device)
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        synchronise(self.device)
        if self.started:
            self.seconds.append(time.perf_counter() - self._began)
            return
        self.started = True
        self.after_first()


def _common(work: Work, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "max_steps": 1 + work.rounds,
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": work.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": work.device != "cpu",
        "use_cpu": work.device == "cpu",
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1000,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": work.seed,
    }


def lengths_of(work: Work) -> dict[str, int]:
    """``min_new_tokens`` forbids the end of the turn until the last token."""
    return {"min_new_tokens": work.new_tokens} if work.forced else {}


def grpo(work: Work, folder: str) -> dict[str, Any]:
    """GRPOTrainer on the work's questions, all of them a step."""
    lengths: list[list[int]] = []

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.append([len(ids) for ids in completion_ids])
        texts = [one[0]["content"] for one in completions]
        return [sum(c in DIGITS for c in text) / len(text) if text else 0.0 for text in texts]

    rows = [{"prompt": [*_system(work), {"role": "user", "content": one.prompt}]} for one in work.questions]
    arguments = GRPOConfig(
        **_common(work, folder),
        per_device_train_batch_size=work.microbatch_rows,
        gradient_accumulation_steps=work.traces // work.microbatch_rows,
        num_generations=work.group_size,
        max_completion_length=work.new_tokens,
        generation_kwargs=lengths_of(work),
        beta=work.kl,
        shuffle_dataset=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    trainer = GRPOTrainer(
        load(work), reward, arguments, Dataset.from_list(rows), None, tokenizer, peft_config=lora(work)
    )
    settings = trainer.generation_config
    few = min(TINY_TOKENS, work.new_tokens)
    settings.max_new_tokens, settings.min_new_tokens = few, few if work.forced else None

    def lengthen() -> None:
        settings.max_new_tokens, settings.min_new_tokens = work.new_tokens, work.new_tokens if work.forced else None

    clock = Clock(work.device, lengthen)
    trainer.add_callback(clock)
    spent = _timed_generation(trainer.model, work.device)
    trainer.train()
    prompts = sum(len(one.prompt_ids) for one in work.questions) * work.group_size
    seen, expected = trainer.state.num_input_tokens_seen, prompts * (1 + work.rounds) + sum(map(sum, lengths))
    if seen != expected:
        raise RuntimeError(f"TRL read {seen} tokens, not {expected}: its prompts are not ours")
    counted = lengths[1:]
    return {
        "seconds": clock.seconds,
        "phases": {"sample": spent[1:], "policy": [a - b for a, b in zip(clock.seconds, spent[1:], strict=True)]},
        "generated": [sum(one) for one in counted],
        "trained": [prompts + sum(one) for one in counted],
        "trained_completion": [sum(one) for one in counted],
        "lengths": counted,
    }


def _system(work: Work) -> list[dict[str, str]]:
    return [{"role": "system", "content": work.system_prompt}] if work.system_prompt else []


def _timed_generation(model: Any, device: str) -> list[float]:
    """Time each call of ``generate``."""
    spent: list[float] = []
    generate = model.generate

    def timed(*args: Any, **kwargs: Any) -> Any:
        drawn: list[Any] = []
        spent.append(seconds(lambda: drawn.append(generate(*args, **kwargs)), device))
        return drawn[0]

    model.generate = timed
    return spent


def sft(work: Work, folder: str) -> dict[str, Any]:
    """SFTTrainer on ids that are the same as ours; the loss is the completions'."""
    rows = [
        {
            "input_ids": one.prompt_ids + one.completion_ids,
            "completion_mask": [0] * len(one.prompt_ids) + [1] * len(one.completion_ids),
        }
        for one in work.questions
    ]
    arguments = SFTConfig(
        **_common(work, folder),
        per_device_train_batch_size=len(rows),
        completion_only_loss=True,
        max_length=None,
    )
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    clock = Clock(work.device)
    trainer = SFTTrainer(
        load(work),
        arguments,
        train_dataset=Dataset.from_list(rows * (1 + work.rounds)),
        processing_class=tokenizer,
        peft_config=lora(work),
        callbacks=[clock],
    )
    trainer.train()
    completion = sum(len(one.completion_ids) for one in work.questions)
    tokens = completion + sum(len(one.prompt_ids) for one in work.questions)
    return {
        "seconds": clock.seconds,
        "phases": {"sft": clock.seconds},
        "generated": [0] * work.rounds,
        "trained": [tokens] * work.rounds,
        "trained_completion": [completion] * work.rounds,
        "lengths": [[]] * work.rounds,
    }


ALGORITHMS = {"grpo": grpo, "sft": sft, "sampling": sampling}


def main() -> None:
    work = Work.read(sys.argv[1])
    torch.set_num_threads(work.threads)
    with tempfile.TemporaryDirectory() as folder:
        measured = ALGORITHMS[work.algorithm](work, folder)
    memory = peak_memory_mb(work.device)
    packages = {name: version(name) for name in ("trl", "torch", "transformers", "peft")}
    Result(**measured, resident_mb=memory["resident"], device_mb=memory["device"], versions=packages).write(sys.argv[2])


if __name__ == "__main__":
    main()
