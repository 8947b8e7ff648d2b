"""Randomly initialised models of every architecture that has a pass of ours, as small as can be."""

from __future__ import annotations

from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def llama(**settings: object) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES | settings))


def qwen2(**settings: object) -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES | settings))


def qwen3(**settings: object) -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES | {"head_dim": 16} | settings))


def mistral(**settings: object) -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES | {"sliding_window": None} | settings))


def gemma(**settings: object) -> PreTrainedModel:
    return GemmaForCausalLM(GemmaConfig(**SIZES | {"head_dim": 8} | settings))
