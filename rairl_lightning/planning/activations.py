"""What a forward pass keeps for its backward pass, in bytes. The constants were counted, and are all here.

``tests/planning/test_activations.py`` counts what autograd saves in models of other widths and compares; where a
training pass comes to save less, its failure prints the new bytes. What kernels of a GPU keep besides was not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from rairl_lightning.functional.logprobs import CHUNK, CHUNK_FOLDED, CHUNK_ON_CPU
from rairl_lightning.models.kernels.packed_attention import MOST_KEYS
from rairl_lightning.models.shapes import BackboneShape, PlayerShape
from rairl_lightning.native import compiler_found
from rairl_lightning.native.vocabulary import BLOCK

LOGIT = 16  # bytes a logit of a chunk: logits, log-probabilities, and two more of their size, in float32
DRAWN_LOGIT = 16  # the same of a row in sampling
NUCLEUS_LOGIT = 29  # what sorting it takes besides: values, places, probabilities, their sums, what lies beyond
REPEATS_KEYS = True  # with a padding mask, keys and values are repeated for the query heads that share them
MASK = True  # ... and the mask is kept in the type of the states, once a layer


@dataclass(frozen=True)
class Saved:
    """Bytes that one token leaves in one layer, for each unit of its widths.

    Attributes:
        hidden: of the residual stream: what the norms and the adapters of q, k, v, gate and up read.
        intermediate: of the MLP.
        queries: of all query heads.
        keys: of all key heads, and the values with them.
        rank: of the adapters.
    """

    hidden: float
    intermediate: float
    queries: float
    keys: float
    rank: float = 0.0


# (adapters or weights, bytes of the stream, autocast to bf16). In float32 with adapters, as on a CPU, the norms keep
# what they read and what they give (4 · 4), the MLP gate and up (2 · 4), attention q and output, k and v (8, 8), seven
# adapters their middles (7 · 4). transformers' own MLP, where the fused one does not suit, keeps 16.
# Where an adapter reads in another type than the stream's, each keeps a copy of its own.
COUNTED: dict[tuple[bool, int, bool], Saved] = {
    (True, 4, False): Saved(16, 8, 8, 8, 28),
    (True, 2, True): Saved(18, 8, 6, 4, 14),
    (True, 4, True): Saved(18, 8, 6, 4, 14),
    (True, 2, False): Saved(28, 10, 8, 4, 28),
    (False, 4, False): Saved(24, 16, 8, 8),
    (False, 4, True): Saved(26, 8, 4, 4),
    (False, 2, True): Saved(16, 8, 4, 4),
    (False, 2, False): Saved(16, 8, 4, 4),
}
# Full training in float32 on a CPU with compiled code: norms keep what they read, the MLP no silu.
COMPILED = Saved(16, 12, 8, 8)
# More of queries and of keys, where they pass a norm: (adapters or weights, bytes of the stream).
NORMALISED = {(True, 4): 4, (True, 2): 4, (False, 4): 8, (False, 2): 6}
COMPILED_NORMALISED = 4


@dataclass(frozen=True)
class Pass:
    """One micro-batch through a player.

    Attributes:
        player: who reads.
        tokens: padded tokens, N · T.
        longest: T.
        autocast: whether products are computed in bf16.
        checkpointing: whether layers are recomputed.
        on_cpu: whether there is no accelerator.
    """

    player: PlayerShape
    tokens: int
    longest: int
    autocast: bool
    checkpointing: bool
    on_cpu: bool = False

    @property
    def stream(self) -> int:
        """Bytes of one number of the residual stream."""
        return self.player.backbone.weight_bytes

    @property
    def computed(self) -> int:
        """Bytes of one number in a matrix product."""
        return 2 if self.autocast else self.stream

    @property
    def packed(self) -> bool:
        """Whether attention keeps keys once for the heads that share them, and neither probabilities nor a mask."""
        return self.on_cpu and self.computed == 4 and (compiler_found() or self.longest <= MOST_KEYS)

    @property
    def folds(self) -> bool:
        """Whether logits are made in blocks of the vocabulary: by compiled code, of a frozen head."""
        frozen = self.player.adapter is not None
        return self.on_cpu and self.computed == 4 and frozen and compiler_found()

    def saved_in_layer(self) -> int:
        """Bytes that one layer keeps."""
        shape, adapters = self.player.backbone, self.player.adapter is not None
        saved, extra = COUNTED[adapters, self.stream, self.autocast], NORMALISED[adapters, self.stream]
        if self.on_cpu and not adapters and self.computed == self.stream == 4 and compiler_found():
            saved, extra = COMPILED, COMPILED_NORMALISED
        extra = extra if shape.normalises_queries else 0
        keys = shape.queries if REPEATS_KEYS and shape.keys < shape.queries and not self.packed else shape.keys
        token = saved.hidden * shape.hidden + saved.intermediate * shape.intermediate + saved.queries * shape.queries
        token += saved.keys * keys + extra * (shape.queries + shape.keys) + saved.rank * self.player.rank
        if MASK and not self.packed:
            token += self.computed * self.longest
        return round(token * self.tokens)

    def working(self) -> int:
        """Bytes of what lives for a moment while one layer is computed: in the MLP, or in attention, and around it."""
        shape = self.player.backbone
        mlp = 3 * shape.intermediate + 2 * shape.hidden
        # Probabilities, and what comes of them; compiled code has a few at a time, and room that stays with the row:
        # keys and values laid out three times, and what its pieces, which read a key four times, find for both.
        attention = 3 * shape.heads * self.longest if self.packed and not compiler_found() else 0
        room = 12 * shape.keys if self.packed and compiler_found() else 0
        return self.tokens * self.computed * (max(mlp, attention) + room) + self.dequantised()

    def dequantised(self) -> int:
        """Bytes of the largest matrix of the blocks in the type it is multiplied in; 0 where it is held so."""
        shape = self.player.backbone
        return max(shape.linears, default=0) * self.computed if shape.quantised else 0

    def logits(self) -> int:
        """Bytes of one chunk of logits and its statistics; 0 for who does not read the vocabulary."""
        if not self.player.reads_vocabulary:
            return 0
        if self.folds:
            return min(CHUNK_FOLDED, self.tokens) * (BLOCK + 3 * self.player.backbone.hidden) * 4
        rows = min(CHUNK_ON_CPU if self.on_cpu else CHUNK, self.tokens)
        return rows * self.player.backbone.vocabulary * LOGIT

    def training(self) -> dict[str, int]:
        """Bytes by part at the most demanding moment of forward and backward."""
        shape, layer = self.player.backbone, self.saved_in_layer()
        inputs = self.tokens * self.stream * shape.hidden
        kept = shape.layers * inputs + layer if self.checkpointing else shape.layers * layer
        return {
            "activations": kept + _cast_copies(self) + 4 * 4 * self.tokens * shape.hidden,  # and those of the ends
            "at work in one layer": self.working(),
            "logits of one chunk": self.logits(),
        }

    def inference(self) -> dict[str, int]:
        """Bytes by part without a backward pass."""
        ends = 4 * 2 * self.tokens * self.player.backbone.hidden
        return {"at work in one layer": self.working() + ends, "logits of one chunk": self.logits()}


def cache_bytes(shape: BackboneShape, tokens: int, autocast: bool) -> int:
    """Bytes of the keys and values of ``tokens`` tokens."""
    number = 2 if autocast and shape.weight_bytes == 2 else shape.weight_bytes
    return 2 * shape.layers * shape.keys * number * tokens


def _cast_copies(part: Pass) -> int:
    """A float32 base under autocast is cast at every use, and what was cast is kept for the backward pass."""
    shape = part.player.backbone
    cast = part.autocast and part.stream == 4 and not shape.quantised and part.player.adapter is not None
    return 2 * sum(shape.linears) // (shape.layers if part.checkpointing else 1) if cast else 0
