"""Backbones of real families, small, and the sizes that planning says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import QWEN2_5_7B
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

FAMILIES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
SMALL = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
Write = Callable[..., Path]


@pytest.fixture
def configured(tmp_path: Path) -> Write:
    """A folder with a configuration, and no weights."""

    def write(family: str = "llama", **changed: Any) -> Path:
        config = FAMILIES[family](**{**SMALL, **changed})
        config.save_pretrained(tmp_path / family)
        return tmp_path / family

    return write


@pytest.fixture
def saved(configured: Write) -> Write:
    """The same with random weights, to be loaded."""

    def write(family: str = "llama", dtype: torch.dtype = torch.float32, **changed: Any) -> Path:
        folder = configured(family, **changed)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """The configuration of a 7B model, and nothing else of it."""
    Qwen2Config(**QWEN2_5_7B).save_pretrained(tmp_path / "7b")
    return tmp_path / "7b"
