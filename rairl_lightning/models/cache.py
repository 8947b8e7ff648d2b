"""A key-value cache that is written in place."""

from __future__ import annotations

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

BLOCK = 64


def growing_cache(config: PreTrainedConfig) -> Cache:
    """An empty cache for one model; layers with a sliding window keep transformers' own kind."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _GrowingLayer(DynamicLayer):
    """Keeps room for the next tokens: appending one copies that one, where concatenation copies the whole past."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._rooms: list[Tensor | None] = [None, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append and return all keys and values, ``[rows, heads, tokens, size]``."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self._rooms[0] = _append(self.keys, self._rooms[0], key_states)
        self.values, self._rooms[1] = _append(self.values, self._rooms[1], value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows only."""
        # On a view, index_select is three times as fast as the parent's indexing.
        self.keys, self.values = self.keys.index_select(0, indices), self.values.index_select(0, indices)


def _append(past: Tensor, room: Tensor | None, new: Tensor) -> tuple[Tensor, Tensor]:
    rows, heads, added, size = new.shape
    before = past.shape[-2] if past.numel() else 0
    end = before + added
    # Repeating or dropping rows replaces ``past`` by a tensor that no longer lies in the room.
    if room is None or room.shape[-2] < end or room.data_ptr() != past.data_ptr():
        room = new.new_empty(rows, heads, end + BLOCK, size)
        room[..., :before, :] = past if before else 0
    room[..., before:end, :] = new
    return room[..., :end, :], room
