"""What a transformer's arithmetic costs, from its shape alone: the floors that times are compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

Matrix = tuple[int, int]  # (outputs, inputs)


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer with a gated feed-forward part (Llama, Qwen, SmolLM).

    Attributes:
        hidden: width of the residual stream.
        intermediate: width of the feed-forward part.
        layers: blocks.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        vocabulary: tokens.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def of(cls, folder: Path | str) -> Self:
        """Read a model folder's ``config.json``."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        return cls(
            config["hidden_size"],
            config["intermediate_size"],
            config["num_hidden_layers"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or config["hidden_size"] // heads,
            config["vocab_size"],
        )

    @property
    def block(self) -> list[Matrix]:
        """The matrices of one block: query, key, value, output; gate, up, down."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [
            (queries, self.hidden),
            (keys, self.hidden),
            (keys, self.hidden),
            (self.hidden, queries),
            (self.intermediate, self.hidden),
            (self.intermediate, self.hidden),
            (self.hidden, self.intermediate),
        ]

    @property
    def head(self) -> Matrix:
        """Hidden state to logits."""
        return self.vocabulary, self.hidden

    @property
    def block_parameters(self) -> int:
        """Parameters in the matrices of all blocks, P."""
        return self.layers * sum(rows * columns for rows, columns in self.block)

    @property
    def head_parameters(self) -> int:
        """Parameters of the head, V·H."""
        return self.vocabulary * self.hidden


def training_flops(shape: Shape, tokens: int, completion_tokens: int) -> float:
    """Floating-point operations of one LoRA update: ``4 P · tokens + 4 V H · completion tokens``.

    A product with a matrix of p parameters takes 2 p operations a token forward, and 2 p backward for the gradient of
    its input. The third product of full training, the gradient of the matrix, is not made: the matrix is frozen. Logits
    and their gradient are needed where the loss is, at completion tokens. It is a floor: attention scores, adapters,
    norms and activations come on top, and nothing is computed twice. SFT and GRPO have the same; the discriminator has
    no head over the vocabulary (``completion_tokens = 0``).

    Args:
        shape: of the model.
        tokens: real ones, prompt and completion, of all traces.
        completion_tokens: of these.
    """
    return 4.0 * (shape.block_parameters * tokens + shape.head_parameters * completion_tokens)


def scoring_flops(shape: Shape, tokens: int, completion_tokens: int) -> float:
    """Of a pass without gradient: half of :func:`training_flops`."""
    return training_flops(shape, tokens, completion_tokens) / 2


def decoding_flops(shape: Shape, rows: int) -> float:
    """Of the matrix products of one decoding step, every row one token: ``2 (P + V H) · rows``."""
    return 2.0 * (shape.block_parameters + shape.head_parameters) * rows


def training_floor(shape: Shape, tokens: int, completion_tokens: int, flops_per_second: float) -> float:
    """Most trained tokens a second: tokens over the time that :func:`training_flops` takes at the measured rate."""
    return tokens * flops_per_second / training_flops(shape, tokens, completion_tokens)
