"""What TRL samples with, alone: ``generate`` of transformers; and the model that it trains."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from speed_machine import seconds
from speed_work import TINY_TOKENS, Work
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def load(work: Work) -> Any:
    """32-bit on a CPU, bfloat16 on an accelerator."""
    dtype = torch.float32 if work.device == "cpu" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(work.model, dtype=dtype).to(work.device)


def lora(work: Work) -> LoraConfig:
    """On all linear layers."""
    return LoraConfig(task_type="CAUSAL_LM", r=work.rank, lora_alpha=2 * work.rank, target_modules="all-linear")


def sampling(work: Work, _: str) -> dict[str, Any]:
    """What TRL samples with: ``generate`` of transformers, adapters in place, every sample with its prompt."""
    model = get_peft_model(load(work), lora(work)).eval()
    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    prompts = [{"input_ids": one.prompt_ids} for one in work.questions for _ in range(work.group_size)]
    inputs = tokenizer.pad(prompts, return_tensors="pt").to(work.device)
    width = inputs["input_ids"].shape[1]
    drawn: list[Any] = []

    def run(new_tokens: int) -> float:
        least = new_tokens if work.forced else None
        settings = GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=least,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        with torch.no_grad():
            return seconds(lambda: drawn.append(model.generate(**inputs, generation_config=settings)), work.device)

    run(TINY_TOKENS)
    prefill = [run(1) for _ in range(work.rounds)]
    whole = [run(work.new_tokens) for _ in range(work.rounds)]
    lengths = [_lengths(ids[:, width:], tokenizer.eos_token_id) for ids in drawn[-work.rounds :]]
    nothing = [0] * work.rounds
    return {
        "seconds": whole,
        "phases": {"prefill": prefill},
        "generated": [sum(one) for one in lengths],
        "trained": nothing,
        "trained_completion": nothing,
        "lengths": lengths,
    }


def _lengths(ids: torch.Tensor, eos_id: int) -> list[int]:
    """Tokens up to and with the first end of turn."""
    before = (ids == eos_id).cumsum(dim=1) - (ids == eos_id).long() == 0
    return before.sum(dim=1).tolist()
