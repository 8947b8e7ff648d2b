"""What a configuration says of sizes, against models that were really built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models import (
    BackboneSpec,
    ExpectationHead,
    FullFineTuning,
    LinearHead,
    LoRASpec,
    ModelPair,
    PairSpec,
    SharedBase,
    TwoBackbones,
    TwoHeads,
)
from rairl_lightning.models.loading import load_backbone
from rairl_lightning.models.shapes import backbone_shape, nf4_bytes

FAMILIES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Path]:
    """A model of each family, its head tied and not, with the tokenizer of the tiny one."""
    found = {}
    for family, kind in FAMILIES.items():
        for tied in (True, False):
            folder = tmp_path_factory.mktemp(family)
            for file in tiny.glob("*token*"):
                (folder / file.name).write_bytes(file.read_bytes())
            vocabulary = AutoConfig.from_pretrained(tiny).vocab_size
            config = kind(
                vocab_size=vocabulary,
                hidden_size=64,
                intermediate_size=200,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=tied,
            )
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            (folder / "chat_template.jinja").write_bytes((tiny / "chat_template.jinja").read_bytes())
            found[f"{family} {'tied' if tied else 'untied'}"] = folder
    return found


NAMES = [f"{family} {head}" for family in FAMILIES for head in ("tied", "untied")]


def held_bytes(tensors: Iterable[Tensor]) -> int:
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def quantised_tensors(model: torch.nn.Module) -> Iterable[Tensor]:
    """Scales, tables and offsets of every 4-bit matrix."""
    for part in model.modules():
        state = getattr(getattr(part, "weight", None), "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)


def nf4_model_bytes(model: torch.nn.Module) -> int:
    tensors = {id(t): t for t in [*model.parameters(), *quantised_tensors(model)]}
    return sum(t.numel() * t.element_size() for t in tensors.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_are_counted_exactly(folders: dict[str, Path], name: str, dtype: str) -> None:
    spec = BackboneSpec(str(folders[name]), dtype=dtype)
    shape, model = backbone_shape(spec), load_backbone(spec)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    said = shape.linear_bytes + shape.unquantised_bytes + shape.output_bytes
    assert said == held_bytes(model.parameters())
    assert bool(shape.output) == name.endswith("untied")
    assert shape.normalises_queries == name.startswith("qwen3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nf4_is_counted_exactly(folders: dict[str, Path], name: str, dtype: str) -> None:
    spec = BackboneSpec(str(folders[name]), quantisation="nf4", dtype=dtype)
    shape, model = backbone_shape(spec), load_backbone(spec)
    # On a CPU bitsandbytes turns the biases of 4-bit layers to float32, in which it computes there.
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith(".bias"))
    held = nf4_model_bytes(model) - biases * (4 - shape.weight_bytes)
    assert shape.linear_bytes + shape.unquantised_bytes + shape.output_bytes == held
    assert shape.linear_bytes != sum(shape.linears) // 2, "without the scales it would be less"


def test_nf4_of_large_matrices_is_4_127_bits() -> None:
    assert 8 * nf4_bytes(2**26) / 2**26 == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), rel=1e-3)  # arXiv 2305.14314


def specs(folder: Path, other: Path) -> dict[str, PairSpec]:
    backbone, second = BackboneSpec(str(folder)), BackboneSpec(str(other), quantisation="nf4")
    lora = LoRASpec(4, 8)
    return {
        "shared": SharedBase(backbone, lora, LoRASpec(2, 4), ExpectationHead(8)),
        "some layers": SharedBase(backbone, LoRASpec(4, 8, target_modules=["q_proj", "down_proj"]), lora),
        "a pattern": SharedBase(backbone, LoRASpec(4, 8, target_modules=r".*layers\.1\..*(up|gate)_proj"), lora),
        "two": TwoBackbones(backbone, second, lora, LoRASpec(2, 4), TwoHeads(LinearHead(), ExpectationHead(8))),
        "full": FullFineTuning(backbone, ExpectationHead(8)),
        "full, linear head": FullFineTuning(backbone),
    }


@pytest.mark.parametrize("kind", specs(Path(), Path()))
@pytest.mark.parametrize("head", ["tied", "untied"])
def test_a_pair_is_as_large_as_its_shape_says(folders: dict[str, Path], kind: str, head: str) -> None:
    spec = specs(folders[f"qwen2 {head}"], folders[f"qwen2 {head}"])[kind]
    shape, pair = spec.shape(), spec.build()
    assert shape.discriminator is not None
    for player, said in (("policy", shape.policy), ("discriminator", shape.discriminator)):
        own = pair.trainable_parameters(player)
        assert said.trained.parameters == sum(p.numel() for p in own)
        assert said.trained.tensors == len(own)
        assert said.trained.bytes == held_bytes(own)
    assert sum(shape.frozen.values()) == frozen_bytes(pair)
    before = held_bytes(pair.parameters())
    pair.anchor_reference()
    assert shape.anchor == held_bytes(pair.parameters()) - before


def frozen_bytes(pair: ModelPair) -> int:
    trained = {id(p) for player in pair.players for p in pair.trainable_parameters(player)}
    scales = sum(t.numel() * t.element_size() for t in {id(t): t for t in quantised_tensors(pair)}.values())
    return held_bytes(p for p in pair.parameters() if id(p) not in trained) + scales


def test_a_baseline_has_no_discriminator(folders: dict[str, Path]) -> None:
    for spec in specs(folders["llama tied"], folders["llama untied"]).values():
        shape, pair = spec.shape(with_discriminator=False), spec.build(with_discriminator=False)
        assert shape.discriminator is None and sum(shape.frozen.values()) == frozen_bytes(pair)


def test_no_weights_are_read(tmp_path: Path) -> None:
    Qwen2Config(num_hidden_layers=2).save_pretrained(tmp_path)
    assert SharedBase(BackboneSpec(str(tmp_path))).shape().policy.backbone.layers == 2
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="configuration"):
        SharedBase(BackboneSpec(str(tmp_path))).shape()


def test_a_pair_of_another_kind_is_told_what_to_write() -> None:
    class Own(PairSpec):
        build = load_codec = None  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"write Own\.shape"):
        Own().shape()
