"""The forward pass of a Llama-shaped model, in as few operations as it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.models.decoding.native import NativeModel, NativePast
from rairl_lightning.models.decoding.prefix_cache import Attend, KeysValues, Past, PrefixPast
from rairl_lightning.models.decoding.weights import HeldWeights, Linear


@dataclass(frozen=True)
class Norm:
    """Root-mean-square normalisation, as Llama computes it: in float32, rounded to the input's type before the weight.

    In fewer operations than F.rms_norm, not fused on a CPU: ``x / sqrt(mean x² + ε) = √n x / hypot(|x|, √(n ε))``.

    Attributes:
        weight: ``[n]``.
        grown: ``[n]``, the weight times √n, in float32.
        root_eps: √(n ε).
    """

    weight: Tensor
    grown: Tensor
    root_eps: Tensor

    @classmethod
    def of(cls, module: Any) -> Norm:
        """Read a module."""
        width = len(module.weight)
        root_eps = module.weight.new_tensor(width * module.variance_epsilon, dtype=torch.float32).sqrt()
        return cls(module.weight, module.weight.float() * width**0.5, root_eps)

    def __call__(self, x: Tensor) -> Tensor:
        """Over the last dimension."""
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).hypot_(self.root_eps)
        if x.dtype == self.weight.dtype == torch.float32:
            return (wide / length).mul_(self.grown)
        return self.weight * (wide / length).mul_(x.shape[-1] ** 0.5).to(x.dtype)


@dataclass(frozen=True)
class Layer:
    """One block."""

    before_attention: Norm
    qkv: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    out: Linear
    before_mlp: Norm
    gate_up: Linear
    down: Linear


class LeanDecoder:
    """A model's weights as they are held for one call of the sampler.

    Args:
        model: of a known shape, see :func:`lean_decoder`.
        weights: how they are held; what is held instead where that does not suit, see :attr:`HeldWeights.instead`.
    """

    def __init__(self, model: PreTrainedModel, weights: HeldWeights) -> None:
        decoder, config = model.get_decoder(), model.config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        # A rotation leaves scales alone: that of the scores is given to the queries with it.
        scales = [self.size**-0.5] * self.heads + [1.0] * self.groups
        self.scales_K1 = torch.tensor(scales, device=model.device)[:, None]
        self.embed, self.rotary, self.norm = decoder.embed_tokens, decoder.rotary_emb, Norm.of(decoder.norm)
        head = model.get_output_embeddings()
        blocks = [linear for block in decoder.layers for linear in linears_of(block)]
        while not weights.suits([*blocks, head]):
            weights = weights.instead
        self.model, self.weights = model, weights
        self.native = NativeModel(model) if weights.native else None
        self.head = self.weights.hold([head])
        self.layers = [self._layer(block) for block in decoder.layers]

    def _layer(self, block: Any) -> Layer:
        attention, mlp, hold = block.self_attn, block.mlp, self.weights.hold
        return Layer(
            Norm.of(block.input_layernorm),
            hold([attention.q_proj, attention.k_proj, attention.v_proj]),
            Norm.of(attention.q_norm) if hasattr(attention, "q_norm") else None,
            Norm.of(attention.k_norm) if hasattr(attention, "k_norm") else None,
            hold([attention.o_proj]),
            Norm.of(block.post_attention_layernorm),
            hold([mlp.gate_proj, mlp.up_proj]),
            hold([mlp.down_proj]),
        )

    def hidden(self, ids_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Hidden states after the last block, not yet normalised.

        Args:
            ids_N: ``[N]`` tokens.
            positions_N: ``[N]``.
            attend: attention of layer ``i``; it knows which tokens each may read.

        Returns:
            ``[N, H]``.
        """
        x = self.embed(ids_N)
        cos, sin = ((part[0, :, None] * self.scales_K1).to(x.dtype) for part in self.rotary(x, positions_N[None]))
        # rotate_half(x) · sin = roll(x) · sin with the first half's sign turned.
        sin = torch.cat([-sin[..., : self.size // 2], sin[..., self.size // 2 :]], dim=-1)
        rotated, all_heads = self.heads + self.groups, self.heads + 2 * self.groups
        for number, layer in enumerate(self.layers):
            heads = layer.qkv(layer.before_attention(x)).view(len(x), all_heads, self.size)
            queries_keys = heads[:, :rotated]
            if layer.query_norm is not None and layer.key_norm is not None:
                parts = layer.query_norm(heads[:, : self.heads]), layer.key_norm(heads[:, self.heads : rotated])
                queries_keys = torch.cat(parts, dim=1)
            half = queries_keys.roll(self.size // 2, dims=-1)
            queries_keys = (queries_keys * cos).addcmul_(half, sin).to(heads.dtype)
            attended = attend(number, queries_keys[:, : self.heads], queries_keys[:, self.heads :], heads[:, rotated:])
            x = _plus(x, layer.out(attended))
            gate, up = layer.gate_up(layer.before_mlp(x)).chunk(2, dim=-1)
            x = _plus(x, layer.down(F.silu(gate).mul_(up)))
        return x

    def past(self, keys_values: KeysValues, lengths_P: Tensor, prompts_N: Tensor) -> Past:
        """Go on from prompts that have been read.

        Args:
            keys_values: of the prompts, as :meth:`read` gives them.
            lengths_P: ``[P]`` real tokens of each.
            prompts_N: ``[N]`` the prompt that each row continues, ascending.
        """
        if self.native is not None:
            return NativePast(self.native, self.embed, self.rotary, keys_values, lengths_P, prompts_N)
        return PrefixPast(self.hidden, self.logits, keys_values, lengths_P, prompts_N)

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """``[N, V]`` float32."""
        return self.head(self.norm(hidden_NH)).float()

    def read(self, ids_BT: Tensor, keep: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
        """Read whole sequences from their start, padded on the right.

        Args:
            ids_BT: ``[B, T]``.
            keep: given each layer's keys and values, ``[B, kv heads, T, size]``.

        Returns:
            ``[B, T, H]``; what stands on padding means nothing.
        """
        rows, width = ids_BT.shape

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            q, k, v = (part.unflatten(0, (rows, width)).transpose(1, 2) for part in (queries, keys, values))
            if keep is not None:
                keep(layer, k.contiguous(), v.contiguous())
            shared = self.heads // self.groups
            k, v = (part.repeat_interleave(shared, dim=1) if shared > 1 else part for part in (k, v))
            # What stands before padding never reads it.
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
            return found.transpose(1, 2).reshape(rows * width, self.heads * self.size)

        positions = torch.arange(width, device=ids_BT.device).repeat(rows)
        return self.hidden(ids_BT.flatten(), positions, attend).view(rows, width, -1)


def _plus(x: Tensor, new: Tensor) -> Tensor:
    """``x + new``; in the place of ``new`` unless autocast made that narrower than the residual stream."""
    return new.add_(x) if new.dtype == x.dtype else x + new


def linears_of(block: Any) -> list[nn.Module]:
    """The seven matrices of a block; empty where one is missing."""
    names = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    owners = getattr(block, "self_attn", None), getattr(block, "mlp", None)
    found = [getattr(owner, name, None) for owner, group in zip(owners, names, strict=True) for name in group]
    return [linear for linear in found if linear is not None] if None not in found else []
