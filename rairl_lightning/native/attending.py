"""What ``cpp/attending.cpp`` offers, with tensors in the place of addresses."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rairl_lightning.native.compiling import Signatures, bound, library

PIECES = 6  # that a row has at least: enough for a few threads to end together, whatever its traces' lengths
UNIT = 16  # queries of a piece are a multiple of it, but for the last


class Stretch(NamedTuple):
    """Tokens of a packed row one after the other, each read by itself and by those after it.

    Attributes:
        start: place of the first.
        length: how many.
        prompt: number of the stretch that all of them read besides, or None.
    """

    start: int
    length: int
    prompt: int | None = None


class Piece(NamedTuple):
    """Queries ``[first, last)`` of a stretch, and the keys that they read."""

    stretch: int
    first: int
    last: int
    before: int
    prompt: int

    @property
    def keys(self) -> int:
        """Those of its prompt, and its own up to its last query's."""
        return self.before + self.last

    @property
    def pairs(self) -> int:
        """Of a query and a key."""
        return _pairs(self.before, self.last) - _pairs(self.before, self.first)


@dataclass
class Plan:
    """Work on a packed row, in pieces; for one thread of Python at a time.

    Attributes:
        stretches: ``[S, 2]`` their starts and lengths.
        pieces: ``[P, 5]`` see ``cpp/stretches.h``.
        longest: most keys that a piece reads.
        keys: those of all pieces together.
        pairs: of a query and a key that it reads.
    """

    stretches: Tensor
    pieces: Tensor
    longest: int
    keys: int
    pairs: int
    _room: Tensor | None = None

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> Plan:
        """Split stretches into pieces, those with most work first.

        Args:
            stretches: in the order of their starts.
        """
        pieces = sorted(_pieces(stretches), key=lambda piece: -piece.pairs)
        rows, keys = [], 0
        for piece in pieces:
            rows.append([piece.stretch, piece.first, piece.last, piece.prompt, keys])
            keys += piece.keys
        table = torch.tensor([[stretch.start, stretch.length] for stretch in stretches])
        longest, pairs = max(piece.keys for piece in pieces), sum(piece.pairs for piece in pieces)
        return cls(table, torch.tensor(rows), longest, keys, pairs)

    def room(self, numbers: int) -> Tensor:
        """Memory of float32 to write to, the same at every call: what the system has just given is slow at first."""
        if self._room is None or len(self._room) < numbers:
            self._room = torch.empty(numbers, dtype=torch.float32, device="cpu")
        return self._room


class Attention(ctypes.Structure):
    """A plan and sizes, see ``cpp/stretches.h``."""

    _fields_ = (
        *((name, c_void_p) for name in ("stretches", "pieces")),
        *((name, c_int64) for name in ("stretch_count", "piece_count", "longest", "keys")),
        *((name, c_int64) for name in ("tokens", "heads", "groups", "size")),
        ("scale", c_float),
    )

    @classmethod
    def of(cls, plan: Plan, query_MHD: Tensor, keys_MKD: Tensor, scale: float) -> Attention:
        """Of these tensors."""
        tables = plan.stretches.data_ptr(), plan.pieces.data_ptr()
        counts = len(plan.stretches), len(plan.pieces), plan.longest, plan.keys
        return cls(*tables, *counts, *query_MHD.shape[:2], *keys_MKD.shape[1:], scale)


SIGNATURES: Signatures = {
    "attend_room": (c_int64, [POINTER(Attention), c_int, c_int]),
    "attend": (None, [POINTER(Attention), *[c_void_p] * 5, c_int]),
    "attend_back": (None, [POINTER(Attention), *[c_void_p] * 8, c_int]),
}


def available() -> bool:
    """Whether there is a library."""
    return library("attending") is not None


@functools.cache
def _library() -> Any:
    return bound("attending", SIGNATURES)


def attend(plan: Plan, query_MHD: Tensor, keys_MKD: Tensor, values_MKD: Tensor, scale: float, threads: int) -> Tensor:
    """``softmax(s q Kᵀ) V`` of every token.

    Args:
        plan: whose stretches hold every token once.
        query_MHD: ``[M, heads, size]``, float32 on a CPU.
        keys_MKD: ``[M, kv heads, size]``, likewise.
        values_MKD: likewise.
        scale: s.
        threads: that share the work.

    Returns:
        ``[M, heads, size]``.
    """
    given = [one.contiguous() for one in (query_MHD, keys_MKD, values_MKD)]
    attention, out = Attention.of(plan, query_MHD, keys_MKD, scale), torch.empty_like(given[0])
    tensors = (*given, plan.room(_library().rairl_attend_room(attention, False, threads)), out)
    _library().rairl_attend(attention, *(one.data_ptr() for one in tensors), threads)
    return out


def attend_back(
    plan: Plan,
    query_MHD: Tensor,
    keys_MKD: Tensor,
    values_MKD: Tensor,
    gradient_MHD: Tensor,
    scale: float,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, given that of what :func:`attend` returns; its other arguments again."""
    given = [one.contiguous() for one in (query_MHD, keys_MKD, values_MKD, gradient_MHD)]
    attention = Attention.of(plan, query_MHD, keys_MKD, scale)
    to_query, to_keys, to_values = (torch.empty_like(one) for one in given[:3])
    room = plan.room(_library().rairl_attend_room(attention, True, threads))
    tensors = (*given, room, to_query, to_keys, to_values)
    _library().rairl_attend_back(attention, *(one.data_ptr() for one in tensors), threads)
    return to_query, to_keys, to_values


def _pairs(before: int, queries: int) -> int:
    return queries * before + queries * (queries + 1) // 2


def _pieces(stretches: Sequence[Stretch]) -> Iterator[Piece]:
    """Of as much work as a part of PIECES, or whole stretches where they have less."""
    before = [0 if one.prompt is None else stretches[one.prompt].length for one in stretches]
    work = [_pairs(keys, one.length) for keys, one in zip(before, stretches, strict=True)]
    for number, (stretch, keys, pairs) in enumerate(zip(stretches, before, work, strict=True)):
        parts = max(1, round(PIECES * pairs / sum(work)))
        ends = [_queries(keys, pairs * part / parts) for part in range(1, parts)]
        bounds = sorted({0, *(min(end, stretch.length) for end in ends), stretch.length})
        prompt = -1 if stretch.prompt is None else stretch.prompt
        for first, last in itertools.pairwise(bounds):
            yield Piece(number, first, last, keys, prompt)


def _queries(before: int, pairs: float) -> int:
    """How many queries read so many keys together, to whole units."""
    return UNIT * round((math.sqrt(before**2 + 2 * pairs) - before) / UNIT)
