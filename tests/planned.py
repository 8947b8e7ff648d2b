"""Setups to be planned, and the sizes of published models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rairl_lightning.models import BackboneSpec, LoRASpec, SharedBase
from rairl_lightning.models.decoding import Packed
from rairl_lightning.planning import Setup, chosen_device
from rairl_lightning.planning.optimisers import OptimiserState

QWEN2_5_7B = {  # of Qwen/Qwen2.5-7B-Instruct's config.json
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
LLAMA3_1_8B = {  # of meta-llama/Llama-3.1-8B-Instruct's config.json
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
SMOLLM2_135M = {  # of HuggingFaceTB/SmolLM2-135M-Instruct's config.json
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
ADAMW = OptimiserState("AdamW", 8.0, 4.0)
CARD = chosen_device(memory_gb=24, tflops=80, bandwidth_gbs=900)


def setup(pair: Any, **changed: Any) -> Setup:
    """Two players, eight samples of each of 4 prompts, 300 + 824 tokens."""
    numbers: dict[str, Any] = {
        "algorithm": "RAIRL", "pair": pair, "learns_reward": True, "autocast": True,
        "optimisers": {"policy": ADAMW, "discriminator": ADAMW},
        "prompts": 4, "group_size": 8, "prompt_tokens": 300, "sampled_tokens": 824, "demonstration_tokens": 824,
        "max_rows": 32, "shares_prompts": False, "keeps_cache": False, "weights": Packed(), "cuts_tail": False,
        "microbatch": 4096,
        "negatives": 8, "drawn": None,
        "discriminator_updates": 3, "policy_updates": 1, "policy_passes": 1, "experts_join": False,
        "asks_reference": True, "penalises_gradient": False, "rounds": 10, "warmup_updates": 30, "sft_epochs": 0,
        "evaluation": (8, 1), "replay_rounds": 100,
    }  # fmt: skip
    return Setup(**{**numbers, **changed})


def quantised(folder: Path, r: int = 16, checkpointing: bool = True) -> SharedBase:
    backbone, lora = BackboneSpec(str(folder), quantisation="nf4", dtype="bfloat16"), LoRASpec(r, 2 * r)
    return SharedBase(backbone, lora, lora, activation_checkpointing=checkpointing)
