"""Decoding steps of a few fixed shapes over keys and values that stay in place: they can be compiled and replayed.

The weights are the policy's own, read where they lie: an update of an adapter is seen and nothing is compiled again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from transformers import Cache
from transformers.cache_utils import StaticLayer

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models.packed_reading import packs
from rairl_lightning.models.policy import Policy

_decoders: weakref.WeakKeyDictionary[Policy, StaticDecoder] = weakref.WeakKeyDictionary()


class _Rows(StaticLayer):
    """The first rows of one layer's keys and values; writes every row's token into the same column.

    Args:
        keys: ``[N, kv heads, columns, size]``.
        values: likewise.
        column: ``[1]`` int64, where the next token goes; of all layers together.
    """

    def __init__(self, keys: Tensor, values: Tensor, column: Tensor) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self.column = keys, values, column
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token a row and return all columns, ``[N, kv heads, columns, size]``."""
        self.keys.index_copy_(2, self.column, key_states)
        self.values.index_copy_(2, self.column, value_states)
        return self.keys, self.values


class StaticDecoder:
    """One policy's step, for batches of the given sizes; the smaller share the first rows of the largest.

    Args:
        policy: whose attention reads a mask as scaled dot products do, over all columns.
        sizes: rows of a step, ascending.
        columns: most tokens of a row.
        compiled: compile the step, as one graph, once for each size; on a GPU it is replayed from CUDA graphs.

    Raises:
        ConfigError: the model's attention has windows or another implementation.
        ModelError: the policy is in shards.
    """

    def __init__(self, policy: Policy, sizes: tuple[int, ...], columns: int, compiled: bool) -> None:
        _check(policy)
        self.decoder, self.head, self.device = policy.decoder, policy.lm_head, policy.device
        self.sizes, self.columns, self.compiled = sizes, columns, compiled
        self.column = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.numbers = torch.arange(columns, device=self.device)
        self.mask_N11C = torch.zeros(sizes[-1], 1, 1, columns, dtype=torch.bool, device=self.device)
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.caches: dict[int, Cache] = {}
        self._step: Callable[..., Tensor] = self._plain_step
        if compiled:
            self._step = torch.compile(self._plain_step, fullgraph=True, dynamic=False, mode="reduce-overhead")

    def start(self, read: Cache, mask_NT: Tensor) -> None:
        """Take over what prompts were read into, and forget what was here before.

        Args:
            read: keys and values of N rows.
            mask_NT: ``[N, T]`` bool, which of their T columns hold a token.
        """
        rows, width = mask_NT.shape
        if not self._takes(read):
            self._make_room(read)
        for (keys, values), layer in zip(self.layers, read.layers, strict=True):
            for room, part in ((keys, layer.keys), (values, layer.values)):
                room.zero_()  # what is masked is still multiplied, by 0: it must be finite
                room[:rows, :, :width] = part
        self.mask_N11C.fill_(True)  # rows that nobody reads must read something, else they are not finite
        self.mask_N11C[:rows, 0, 0, :width] = mask_NT
        self.column.fill_(width)

    def step(self, ids_N: Tensor, positions_N: Tensor) -> Tensor:
        """Read a token of every row.

        Args:
            ids_N: ``[N]`` int64; N is one of the sizes.
            positions_N: ``[N]``.

        Returns:
            ``[N, V]`` float32 logits of the next token, good until the next step.

        Raises:
            ModelError: the step cannot be compiled.
        """
        size = len(ids_N)
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            logits = self._step(self.caches[size], self.mask_N11C[:size], ids_N[:, None], positions_N[:, None])
        except TorchDynamoException as error:
            raise ModelError(
                "The decoding step of this model cannot be compiled as one graph.",
                got=str(error).partition("\n")[0],
                remedy="set compiled: false of the sampler, or sample with SharedPrefixSampler",
            ) from error
        self.column += 1
        return logits

    def move_to_front(self, kept: Tensor) -> None:
        """Let the rows ``kept`` be the first ones, in this order."""
        for room in (self.mask_N11C, *(part for layer in self.layers for part in layer)):
            room[: len(kept)] = room.index_select(0, kept)

    def _plain_step(self, cache: Cache, mask_N11C: Tensor, ids_N1: Tensor, positions_N1: Tensor) -> Tensor:
        hidden = self.decoder(
            input_ids=ids_N1,
            attention_mask=mask_N11C & (self.numbers <= self.column),  # four dimensions: transformers makes none
            position_ids=positions_N1,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return self.head(hidden[:, -1]).float()

    def _takes(self, read: Cache) -> bool:
        """Whether there is room of this kind; autocast makes another kind than there is without it."""
        pairs = zip(self.layers, read.layers, strict=True) if self.layers else ()
        kinds = [(keys.dtype, values.dtype) == (one.keys.dtype, one.values.dtype) for (keys, values), one in pairs]
        return bool(kinds) and all(kinds)

    def _make_room(self, read: Cache) -> None:
        self.layers, self.caches = [], {}
        for layer in read.layers:
            shapes = [
                (self.sizes[-1], part.shape[1], self.columns, part.shape[3]) for part in (layer.keys, layer.values)
            ]
            keys, values = (
                part.new_zeros(shape) for part, shape in zip((layer.keys, layer.values), shapes, strict=True)
            )
            self.layers.append((keys, values))
        for size in self.sizes:
            views = [(keys[:size], values[:size]) for keys, values in self.layers]
            for view in (part for pair in views for part in pair):
                torch._dynamo.mark_static_address(view)  # CUDA graphs may write into it
            self.caches[size] = Cache(layers=[_Rows(*pair, self.column) for pair in views])


def static_decoder(policy: Policy, sizes: tuple[int, ...], columns: int, compiled: bool) -> StaticDecoder:
    """The policy's decoder, which stays with it: what was compiled for it is there in the next round.

    Arguments and exceptions as of :class:`StaticDecoder`; with others than last time it is made anew.
    """
    found = _decoders.get(policy)
    if found is None or (found.sizes, found.columns, found.compiled) != (sizes, columns, compiled):
        found = _decoders[policy] = StaticDecoder(policy, sizes, columns, compiled)
    return found


def _check(policy: Policy) -> None:
    if policy.sharded:
        raise ModelError(
            "A policy in shards cannot be decoded with fixed shapes.",
            expected="a policy that is whole in each process",
            remedy="use --trainer.strategy ddp, or sample with HFSampler",
        )
    if not packs(policy.decoder):
        raise ConfigError(
            "This model cannot be decoded with fixed shapes.",
            expected="attention by scaled dot products over the whole text, as in Llama, Qwen2 and Qwen3",
            got=f"{type(policy.causal_lm).__name__} with {policy.causal_lm.config._attn_implementation}",
            remedy="leave backbone.attn_implementation at null, or sample with HFSampler",
        )
