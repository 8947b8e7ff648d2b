"""A model for :mod:`rairl_lightning.native`: its weights in panels, and the past of rows that it decodes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.models.decoding.adapters import active_adapters, base_of, dense
from rairl_lightning.models.decoding.prefix_cache import BLOCK, KeysValues
from rairl_lightning.models.kernels.threads import threads_for
from rairl_lightning.native import decoding


class NativeModel:
    """A copy of a model's weights for one call of the sampler.

    Args:
        model: of a known shape, every layer of it one that can be copied.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._kept: list[Any] = []  # the structures hold addresses only
        backbone, config = model.get_decoder(), model.config
        blocks = [self._layer(block) for block in backbone.layers]
        layers = self._keep((decoding.Layer * len(blocks))(*blocks))
        head = model.get_output_embeddings()
        self.vocabulary = head.out_features
        self.weights = sum(linear.weight.numel() for linear in model.modules() if isinstance(linear, nn.Linear))
        self.structure = decoding.Model(
            ctypes.cast(layers, ctypes.POINTER(decoding.Layer)),
            self._vector(backbone.norm.weight),
            self._linear(head),
            len(blocks),
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            config.intermediate_size,
            backbone.norm.variance_epsilon,
        )

    def _layer(self, block: Any) -> decoding.Layer:
        attention, mlp = block.self_attn, block.mlp
        norms = (getattr(getattr(attention, name, None), "weight", None) for name in ("q_norm", "k_norm"))
        linears = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        return decoding.Layer(
            self._vector(block.input_layernorm.weight),
            *map(self._vector, norms),
            self._vector(block.post_attention_layernorm.weight),
            *map(self._linear, (*linears, mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
        )

    def _linear(self, linear: Any) -> decoding.Linear:
        base, names = base_of(linear), active_adapters(linear)
        panels, kind = decoding.pack(dense(linear))
        down = up = None
        rank = 0
        if names:
            downs = torch.cat([linear.lora_A[name].weight.detach().float() for name in names])
            ups = [linear.scaling[name] * linear.lora_B[name].weight.detach().float() for name in names]
            rank = len(downs)
            down, up = (self._pointer(_exact(part)) for part in (downs, torch.cat(ups, dim=1)))
        bias = self._vector(base.bias, decoding.padded(base.out_features))
        sizes = base.in_features, base.out_features, rank, kind
        return decoding.Linear(self._pointer(panels), bias, down, up, *sizes)

    def _vector(self, values: Tensor | None, size: int | None = None) -> int | None:
        """Address of a vector, with zeros up to a size; None if there is none."""
        if values is None:
            return None
        return self._pointer(F.pad(values.detach().float(), (0, (size or len(values)) - len(values))).contiguous())

    def _pointer(self, tensor: Tensor) -> int:
        return self._keep(tensor).data_ptr()

    def _keep(self, value: Any) -> Any:
        self._kept.append(value)
        return value


class NativePast:
    """A past that compiled code reads: the keys of a row lie side by side for each of their numbers.

    Args:
        model: the weights.
        embed: embeddings of tokens.
        rotary: cosines and sines, as transformers' modules give them.
        keys_values: of the prompts, ``[P, kv heads, T, size]`` of each layer.
        lengths_P: their lengths.
        prompts_N: prompt of each row, ascending.
    """

    def __init__(
        self,
        model: NativeModel,
        embed: Callable[[Tensor], Tensor],
        rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        keys_values: KeysValues,
        lengths_P: Tensor,
        prompts_N: Tensor,
    ) -> None:
        self._model, self._embed, self._rotary = model, embed, rotary
        self.lengths_P, self.prompts_N, self.step = lengths_P, prompts_N, 0
        width = keys_values[0][0].shape[2]
        filled = 0, 0, 0, decoding.key_room(width) - width
        # [layers, P, kv heads, size, T] and [layers, P, kv heads, T, size]
        self.prompt_keys = torch.stack([F.pad(keys, filled).transpose(2, 3) for keys, _ in keys_values])
        self.prompt_values = torch.stack([F.pad(values, filled) for _, values in keys_values])
        layers, _, groups, size, _ = self.prompt_keys.shape
        self.own_keys = self.prompt_keys.new_empty(layers, len(prompts_N), groups, size, 0)
        self.own_values = self.prompt_keys.new_empty(layers, len(prompts_N), groups, 0, size)
        self._threads = threads_for(len(prompts_N) * model.weights)  # what the scratch has room for
        self._scratch: Tensor | None = None

    def keep(self, kept: Tensor) -> None:
        """See :class:`Past`."""
        left, self.prompts_N = self.prompts_N[kept].unique_consecutive(return_inverse=True)
        self.own_keys, self.own_values = self.own_keys.index_select(1, kept), self.own_values.index_select(1, kept)
        if len(left) < len(self.lengths_P):
            self.prompt_keys, self.prompt_values, self.lengths_P = (
                self.prompt_keys.index_select(1, left),
                self.prompt_values.index_select(1, left),
                self.lengths_P[left],
            )

    def read(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """See :class:`Past`."""
        if self.step == self.own_keys.shape[-1]:
            self._grow()
        embedded_NH = self._embed(tokens_N).float().contiguous()
        cosines_ND, sines_ND = (part[0].float().contiguous() for part in self._rotary(embedded_NH, positions_N[None]))
        inputs = embedded_NH, cosines_ND, sines_ND, self.prompts_N.contiguous(), self.lengths_P
        pasts = self.prompt_keys, self.prompt_values, self.own_keys, self.own_values
        width, room, count = self.prompt_keys.shape[-1], self.own_keys.shape[-1], len(tokens_N)
        rows = decoding.Rows(
            *(tensor.data_ptr() for tensor in (*inputs, *pasts)), count, len(self.lengths_P), width, room, self.step
        )
        if self._scratch is None:
            self._scratch = decoding.scratch(self._model.structure, rows, self._threads)
        logits_NV = embedded_NH.new_empty(count, decoding.padded(self._model.vocabulary))
        decoding.step(self._model.structure, rows, self._scratch, logits_NV, self._threads)
        self.step += 1
        return logits_NV[:, : self._model.vocabulary]

    def _grow(self) -> None:
        """Room for more positions, a multiple of what the library asks for."""
        more = decoding.key_room(BLOCK)
        self.own_keys = F.pad(self.own_keys, (0, more))
        self.own_values = F.pad(self.own_values, (0, 0, 0, more))
        self._scratch = None


def _exact(weight: Tensor) -> Tensor:
    return decoding.pack(weight, [decoding.FLOAT32])[0]
