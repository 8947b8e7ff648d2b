"""A model of the shape of Qwen2.5-7B in NF4, with random weights and no download, for memory and time on a GPU.

    python benchmarks/shape_7b.py --out models/shape-7b        # 6 GB of disk; quantises one block, on a CPU
    python benchmarks/throughput.py --model models/shape-7b --quantisation nf4 --device cuda \
        --checkpointing --prompts 4 --group-size 8 --new-tokens 824 --prompt-tokens 300   # letters are tokens here

One block is drawn and quantised, and written once for every layer: every layer has storage of its own once loaded, and
neither time nor memory depends on the values. Written, and tried on a tiny shape on a CPU; at full size not yet run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file
from speed_floors import Shape
from speed_options import gsm8k_system_prompt
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rairl_lightning.models.tiny import tiny_tokenizer

QWEN_7B = Shape(3584, 18944, 28, 28, 4, 128, 152064)
CONTEXT = 32768
LETTERS = len(tiny_tokenizer([]))  # and special tokens: what the tokenizer has without a corpus
NAMES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
NAMES += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
QUANTISATION = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
}


@dataclass(frozen=True)
class Writer:
    """Writes the shards and remembers which tensor lies in which.

    Attributes:
        folder: where to.
        places: file by tensor.
    """

    folder: Path
    places: dict[str, str]

    def shard(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write one file."""
        file = f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, self.folder / file, {"format": "pt"})
        self.places.update(dict.fromkeys(tensors, file))

    def index(self) -> None:
        """Write the index of all files."""
        total = sum((self.folder / file).stat().st_size for file in set(self.places.values()))
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": self.places}, indent=1)
        (self.folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def quantised(weight: Tensor) -> dict[str, Tensor]:
    """NF4 with double quantisation, in the layout that transformers reads: the packed bytes and the state by suffix."""
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return {"weight": packed} | {f"weight.{name}": value for name, value in state.as_dict(packed=True).items()}


def block(shape: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors of one block by name: matrices in 4 bits, norms in bfloat16."""
    tensors: dict[str, Tensor] = {}
    for name, matrix in zip(NAMES, shape.block, strict=True):
        weight = (0.02 * torch.randn(*matrix, generator=generator)).bfloat16()
        tensors |= {f"{name}.{key}": value for key, value in quantised(weight).items()}
    norms = ("input_layernorm", "post_attention_layernorm")
    return tensors | {f"{name}.weight": torch.ones(shape.hidden, dtype=torch.bfloat16) for name in norms}


def configuration(shape: Shape, ids: dict[str, int]) -> dict[str, object]:
    """As in Qwen2.5's ``config.json``, but for its 0.1 million biases: transformers would read our words as Qwen's."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": shape.head_dim,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "quantization_config": QUANTISATION,
        **ids,
    }


def full_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """With a word for every id, so that whatever is sampled can be read; those of the system prompt come first."""
    words = islice(map("".join, product(ascii_lowercase, repeat=4)), vocabulary)
    corpus = [gsm8k_system_prompt()] * 2 + [" ".join(words)]
    too_few = len(tiny_tokenizer(corpus, max_words=vocabulary - LETTERS))  # marks of the prompt are letters, and words
    return tiny_tokenizer(corpus, max_words=2 * vocabulary - LETTERS - too_few, max_length=CONTEXT)


def build(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Write the model and a tokenizer with as many tokens, a block a file, never more in memory than the embedding.

    Args:
        folder: where to; created if needed.
        shape: hidden and intermediate sizes are multiples of 64.
        seed: of the weights.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = full_tokenizer(shape.vocabulary)
    tokenizer.save_pretrained(folder)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    (folder / "config.json").write_text(json.dumps(configuration(shape, ids), indent=1), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    writer = Writer(folder, {})
    once = block(shape, generator)
    for layer in range(shape.layers):
        writer.shard(f"model-{layer:03}", {f"model.layers.{layer}.{name}": value for name, value in once.items()})
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weight = (0.02 * torch.randn(*shape.head, generator=generator)).bfloat16()
        writer.shard(name.partition(".")[0] + "-" + name.split(".")[-2], {name: weight})
    writer.shard("model-norm", {"model.norm.weight": torch.ones(shape.hidden, dtype=torch.bfloat16)})
    writer.index()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("models") / "shape-7b", help="folder to write (%(default)s)")
    print(f"Written: {build(parser.parse_args().out, QWEN_7B)}")


if __name__ == "__main__":
    main()
