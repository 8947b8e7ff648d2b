"""What a micro-batch keeps for its backward pass, against what autograd really saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rairl_lightning.models import BackboneSpec, LoRASpec
from rairl_lightning.models.cache import BLOCK, growing_cache
from rairl_lightning.models.kernels.lora import adapted
from rairl_lightning.models.loading import load_backbone
from rairl_lightning.models.policy import hidden_states
from rairl_lightning.models.shapes import PlayerShape, adapted_player, backbone_shape, whole_player
from rairl_lightning.models.shared import _lora_config
from rairl_lightning.planning.activations import Pass, cache_bytes
from rairl_lightning.types import TokenBatch, TraceIds

WITHIN = 1.15  # what a layer of these small models saves beside its widths: positions, scales, statistics of norms
Write = Callable[..., Path]
LORA = LoRASpec(4, 8)


def padded(rows: int, length: int) -> TokenBatch:
    lengths = [length - 8, *[length] * (rows - 1)]
    traces = [TraceIds([1] * 4, [2] * (n - 4), [False] * (n - 4), [(0, 0)] * (n - 4)) for n in lengths]
    return TokenBatch.from_traces(traces, 0)


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes of the distinct storages that autograd keeps, the model's own weights apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del out
    return total


def built(spec: BackboneSpec, adapters: bool) -> tuple[nn.Module, PlayerShape]:
    torch.manual_seed(0)
    model = load_backbone(spec)
    if adapters:
        config = _lora_config(LORA, "CAUSAL_LM")
        return adapted(model, config).train(), adapted_player(spec, LORA, config)
    return model.requires_grad_(True).train(), whole_player(spec)


def measured(folder: Path, adapters: bool, tokens: TokenBatch, autocast: bool, **spec: Any) -> tuple[int, PlayerShape]:
    model, player = built(BackboneSpec(str(folder), **spec), adapters)
    decoder = (model.get_base_model() if adapters else model).get_decoder()

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return hidden_states(decoder, tokens)

    return saved_bytes(forward, model), player


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("adapters", [True, False])
@pytest.mark.parametrize(("dtype", "autocast"), [("float32", False), ("bfloat16", True)])
def test_a_layer_saves_what_is_said(saved: Write, family: str, adapters: bool, dtype: str, autocast: bool) -> None:
    """The difference of three layers and two is that of one: ends and masks that all share cancel out."""
    tokens = padded(16, 64)
    sizes = []
    for layers in (2, 3):
        folder = saved(family, num_hidden_layers=layers)
        size, player = measured(folder, adapters, tokens, autocast, dtype=dtype)
        sizes.append(size)
    weights = sum(player.backbone.linears) // 3 if not adapters else player.trained.parameters // 3
    cast = 2 * weights if autocast and not (not adapters and dtype == "bfloat16") else 0
    layer = sizes[1] - sizes[0] - cast
    # What torch keeps under autocast is what a GPU keeps, as far as can be counted here.
    said = Pass(player, 16 * 64, 64, autocast, checkpointing=False, on_cpu=not autocast).saved_in_layer()
    print(f"{family} {adapters=} {dtype} {autocast=}: saved {layer}, said {said}, of {layer / said:.3f}")
    assert said / WITHIN <= layer <= said * WITHIN


def test_a_wrong_constant_would_be_noticed(saved: Write) -> None:
    """Twice the layers, or the MLP forgotten, lies outside of what is allowed above."""
    player = built(BackboneSpec(str(saved())), adapters=True)[1]
    said = Pass(player, 1024, 64, False, False, on_cpu=True).saved_in_layer()
    mlp = 16 * player.backbone.intermediate * 1024
    assert said - mlp < said / WITHIN and 2 * said > said * WITHIN


def test_checkpointing_saves_all_but_one_layer(saved: Write) -> None:
    player = built(BackboneSpec(str(saved(num_hidden_layers=3))), adapters=True)[1]
    with_it, without = (Pass(player, 1024, 64, False, on).training()["activations"] for on in (True, False))
    layer = Pass(player, 1024, 64, False, False).saved_in_layer()
    assert without - with_it == 2 * layer - 3 * 4 * 64 * 1024


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_cache_is_counted_exactly(saved: Write, dtype: str) -> None:
    spec = BackboneSpec(str(saved("qwen2", num_hidden_layers=3)), dtype=dtype)
    model, cache = load_backbone(spec), growing_cache(load_backbone(spec).config)
    with torch.no_grad():
        model.get_decoder()(input_ids=torch.ones(5, 12, dtype=torch.long), past_key_values=cache, use_cache=True)
    layers = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    assert cache_bytes(backbone_shape(spec), 5 * 12, False) == sum(p.numel() * p.element_size() for p in layers)
    held = sum(part.untyped_storage().nbytes() for part in layers)
    assert cache_bytes(backbone_shape(spec), 5 * (12 + BLOCK), False) == held, "room for the next tokens"


@pytest.mark.smollm2
def test_smollm2_saves_what_is_said(root: Path) -> None:
    folder = root / "models" / "SmolLM2-135M-Instruct"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("make smollm2 has not prepared the weights")
    size, player = measured(folder, True, padded(2, 96), False)
    said = Pass(player, 2 * 96, 96, False, False, on_cpu=True).training()["activations"]
    assert said / WITHIN <= size <= said * WITHIN
