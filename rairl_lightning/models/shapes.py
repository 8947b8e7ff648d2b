"""How large models are, from their configuration alone: they are built without memory, on torch's meta device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from rairl_lightning.models.heads import HeadSpec
from rairl_lightning.models.loading import DTYPES, load_config
from rairl_lightning.models.specs import BackboneSpec, LoRASpec

Made = TypeVar("Made")
NF4_BLOCK, SCALES_BLOCK = 64, 256  # weights to a scale, scales to a scale of their own (arXiv 2305.14314, §3)
NF4_TABLES = 4 * (16 + 256 + 1)  # of each layer: both code books and the offset, in float32


@dataclass(frozen=True)
class BackboneShape:
    """Sizes of a causal language model.

    Attributes:
        hidden: width H.
        intermediate: width of the MLP, F.
        layers: decoder blocks.
        heads: query heads.
        queries: width of all of them together.
        keys: width of all key heads together, that of the values too.
        vocabulary: V.
        normalises_queries: whether queries and keys pass a norm of their own (Qwen3).
        linears: weights of each linear layer of the blocks, which is what NF4 quantises.
        others: parameters of the embedding, the norms and the biases, never quantised.
        output: parameters of a language-model head of its own, never quantised; 0 where it is the embedding.
        weight_bytes: of one weight that is not quantised.
        quantised: whether ``linears`` are held in NF4.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    normalises_queries: bool
    linears: tuple[int, ...]
    others: int
    output: int
    weight_bytes: int
    quantised: bool

    @property
    def parameters(self) -> int:
        """All of them, each once."""
        return sum(self.linears) + self.others + self.output

    @property
    def products(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the layers that read the same input, through a block of the Llama shape."""
        attention = [(self.hidden, self.queries + 2 * self.keys), (self.queries, self.hidden)]
        return [*attention, (self.hidden, 2 * self.intermediate), (self.intermediate, self.hidden)]

    @property
    def linear_bytes(self) -> int:
        """Of the weights of the blocks as they are held."""
        return sum(nf4_bytes(n) for n in self.linears) if self.quantised else self.weight_bytes * sum(self.linears)

    @property
    def unquantised_bytes(self) -> int:
        """Of the embedding, the norms and the biases."""
        return self.weight_bytes * self.others

    @property
    def output_bytes(self) -> int:
        """Of a language-model head of its own."""
        return self.weight_bytes * self.output


@dataclass(frozen=True)
class TrainedShape:
    """What a player moves.

    Attributes:
        parameters: how many.
        tensors: in how many tensors.
        bytes: of the weights, and of their gradients.
    """

    parameters: int = 0
    tensors: int = 0
    bytes: int = 0

    def __add__(self, other: TrainedShape) -> TrainedShape:
        return TrainedShape(self.parameters + other.parameters, self.tensors + other.tensors, self.bytes + other.bytes)


@dataclass(frozen=True)
class PlayerShape:
    """A policy or a discriminator.

    Attributes:
        backbone: what it reads with.
        adapter: trained beside the frozen backbone; None if the backbone itself is trained.
        rank: r of the adapter; 0 without.
        trained: all that moves, head included.
        reads_vocabulary: whether it uses the language-model head.
    """

    backbone: BackboneShape
    adapter: TrainedShape | None
    rank: int
    trained: TrainedShape
    reads_vocabulary: bool


@dataclass(frozen=True)
class PairShape:
    """What a pair would hold, before any of it is loaded.

    Attributes:
        policy: π_θ.
        discriminator: D_φ; None in a baseline.
        frozen: bytes of what no one trains, by part; the reference's own weights among them.
        anchor: bytes that the reference takes when it becomes a copy of the policy.
        checkpointing: whether activations are recomputed.
    """

    policy: PlayerShape
    discriminator: PlayerShape | None
    frozen: dict[str, int]
    anchor: int
    checkpointing: bool


def nf4_bytes(weights: int) -> int:
    """Bytes of one matrix in NF4 with double quantisation: half a byte a weight, and the scales.

    >>> nf4_bytes(4096 * 4096) / 4096**2  # 4.127 bits a weight
    0.5159...
    """
    scales = -(-weights // NF4_BLOCK)
    return -(-weights // 2) + scales + 4 * -(-scales // SCALES_BLOCK) + NF4_TABLES


def backbone_shape(spec: BackboneSpec) -> BackboneShape:
    """Sizes of a backbone; reads its ``config.json`` and no weights.

    Raises:
        ModelError: the configuration cannot be had.
    """
    return _once((_key(spec), spec.quantisation is not None), lambda: _backbone_shape(spec))


def _backbone_shape(spec: BackboneSpec) -> BackboneShape:
    model = _unloaded(spec)
    config = model.config.get_text_config()
    linears = _linears(model)
    total = sum(parameter.numel() for parameter in model.parameters())  # a tied head counts once
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    own = 0 if output.weight is embedding.weight else sum(p.numel() for p in output.parameters())
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return BackboneShape(
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        queries=config.num_attention_heads * head_size,
        keys=keys * head_size,
        vocabulary=config.vocab_size,
        normalises_queries=any(name.endswith(".q_norm") for name, _ in model.named_modules()),
        linears=tuple(layer.weight.numel() for layer in linears.values()),
        others=total - own - sum(layer.weight.numel() for layer in linears.values()),
        output=own,
        weight_bytes=DTYPES[spec.dtype].itemsize,
        quantised=spec.quantisation is not None,
    )


def adapter_shape(spec: BackboneSpec, config: LoraConfig, *, decoder_alone: bool = False) -> TrainedShape:
    """Size of an adapter, float32 whatever the backbone is, as PEFT would make it.

    Args:
        spec: what it is put into.
        config: of the adapter.
        decoder_alone: without the language-model head, as the discriminator's.
    """

    def counted() -> TrainedShape:
        model = _unloaded(spec)
        with torch.device("meta"):
            adapted = get_peft_model(model.get_decoder() if decoder_alone else model, copy.deepcopy(config))
        sizes = [p.numel() for name, p in adapted.named_parameters() if ".lora_" in name]
        return TrainedShape(sum(sizes), len(sizes), torch.float32.itemsize * sum(sizes))

    asked = sorted((name, str(value)) for name, value in config.to_dict().items())
    return _once((_key(spec), str(asked), decoder_alone), counted)


def head_shape(spec: HeadSpec, hidden: int) -> TrainedShape:
    """Size of a discriminator's head, float32."""
    with torch.device("meta"):
        sizes = [parameter.numel() for parameter in spec.build(hidden).parameters()]
    return TrainedShape(sum(sizes), len(sizes), torch.float32.itemsize * sum(sizes))


def weights_shape(spec: BackboneSpec, *, decoder_alone: bool = False) -> TrainedShape:
    """Size of a backbone that is trained itself."""
    model = _unloaded(spec)
    sizes = [p.numel() for p in (model.get_decoder() if decoder_alone else model).parameters()]
    return TrainedShape(sum(sizes), len(sizes), DTYPES[spec.dtype].itemsize * sum(sizes))


def adapted_player(spec: BackboneSpec, lora: LoRASpec, config: LoraConfig, head: HeadSpec | None = None) -> PlayerShape:
    """A player that trains an adapter: the policy, or with ``head`` the discriminator."""
    backbone, adapter = backbone_shape(spec), adapter_shape(spec, config, decoder_alone=head is not None)
    own = TrainedShape() if head is None else head_shape(head, backbone.hidden)
    return PlayerShape(backbone, adapter, lora.r, adapter + own, head is None or head.needs_lm_head)


def whole_player(spec: BackboneSpec, head: HeadSpec | None = None) -> PlayerShape:
    """A player that trains all its weights: the policy, or with ``head`` the discriminator."""
    backbone = backbone_shape(spec)
    if head is None:
        return PlayerShape(backbone, None, 0, weights_shape(spec), reads_vocabulary=True)
    trained = weights_shape(spec, decoder_alone=not head.needs_lm_head) + head_shape(head, backbone.hidden)
    return PlayerShape(backbone, None, 0, trained, head.needs_lm_head)


def base_bytes(backbone: BackboneShape, label: str, *, with_output: bool = True) -> dict[str, int]:
    """Bytes of a frozen backbone by part.

    Args:
        backbone: whose.
        label: whose, in words.
        with_output: whether a language-model head of its own is kept.
    """
    held = "NF4" if backbone.quantised else "bfloat16" if backbone.weight_bytes == 2 else "float32"
    parts = {
        f"{label}, {held}": backbone.linear_bytes,
        f"{label}: embedding, norms, biases": backbone.unquantised_bytes,
    }
    if with_output and backbone.output:
        parts[f"{label}: language-model head"] = backbone.output_bytes
    return parts


_made: dict[Hashable, Any] = {}


def _once(key: Hashable, make: Callable[[], Made]) -> Made:
    """What was made for this key before: a plan is made a dozen times, each with one knob turned."""
    if key not in _made:
        _made[key] = make()
    return _made[key]


def _key(spec: BackboneSpec) -> Hashable:
    """All that the sizes of a backbone depend on; its files may change."""
    return load_config(spec).to_json_string(), spec.dtype


def _unloaded(spec: BackboneSpec) -> PreTrainedModel:
    config = load_config(spec)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=DTYPES[spec.dtype])


def _linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """What bitsandbytes replaces: every linear layer but the language-model head."""
    head = model.get_output_embeddings()
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head}
