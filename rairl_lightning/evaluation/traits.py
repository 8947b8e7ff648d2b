"""The surface of traces as columns: what leak probes look at, and nothing that takes reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.surface import NUMBER_FEATURES, SYMBOL_FEATURES, Family, placed, surface
from rairl_lightning.types import TokenBatch, TraceIds

_FIRST, _LAST = 8, 3  # tokens

TOKEN_FEATURES = {
    "tokens": ("completion tokens", Family.LENGTH),
    "characters_per_token": ("characters of a token", Family.TOKENS),
    "canonical_tokens": ("cut into tokens as the tokenizer would", Family.TOKENS),
    "ends_with_eos": ("ended by the end-of-turn token, not cut off", Family.ENDING),
    "first_tokens": (f"first {_FIRST} tokens", Family.WORDS),
    "last_tokens": (f"last {_LAST} tokens before the end of turn", Family.WORDS),
}
"""Meaning and family of what is read off the ids, beside ``text.surface``."""


@dataclass(frozen=True)
class Traits:
    """The surface of M traces, column by column.

    Attributes:
        numbers: ``[M]`` float64 each.
        symbols: M tuples of symbols each.
        prompts: M keys; traces of one prompt share it, of whichever class they are.
    """

    numbers: Mapping[str, Tensor]
    symbols: Mapping[str, tuple[tuple[str, ...], ...]]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def of_texts(cls, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Traits:
        """Read M completions.

        Args:
            texts: as they were written, special tokens removed.
            prompts: one for each; without, every text counts as one of its own.
        """
        seen = [surface(text) for text in texts]
        keys = [f"{place}" for place in range(len(texts))] if prompts is None else prompts
        return cls._of_rows([one.numbers for one in seen], [one.symbols for one in seen], keys)

    @classmethod
    def of_tokens(cls, tokens: TokenBatch, codec: TraceCodec) -> Traits:
        """Read M traces, their ids included; on any device."""
        return cls.of_traces(tokens.to("cpu").traces(), codec)

    @classmethod
    def of_traces(cls, traces: Sequence[TraceIds], codec: TraceCodec) -> Traits:
        """Read M traces, their ids included.

        Args:
            traces: before padding.
            codec: that made them.
        """
        numbers, symbols, prompts = [], [], []
        for trace in traces:
            text = codec.decode(trace.completion_ids)
            seen, (more_numbers, more_symbols) = surface(text), _of_ids(trace.completion_ids, text, codec)
            numbers.append(seen.numbers | more_numbers)
            symbols.append(seen.symbols | more_symbols)
            prompts.append(hashlib.sha256(repr(list(trace.prompt_ids)).encode()).hexdigest()[:16])
        return cls._of_rows(numbers, symbols, prompts)

    @classmethod
    def cat(cls, parts: Iterable[Traits]) -> Traits:
        """Stack traits that have the same columns; parts without a trace need not have any."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls({}, {}, ())
        numbers = {name: torch.cat([part.numbers[name] for part in parts]) for name in parts[0].numbers}
        symbols = {name: tuple(row for part in parts for row in part.symbols[name]) for name in parts[0].symbols}
        return cls(numbers, symbols, tuple(key for part in parts for key in part.prompts))

    @property
    def is_current(self) -> bool:
        """Whether the columns are those that :meth:`of_traces` reads today; none are needed without a trace."""
        today = {*NUMBER_FEATURES, *SYMBOL_FEATURES, *TOKEN_FEATURES}
        return not len(self) or {*self.numbers, *self.symbols} == today

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"numbers": dict(self.numbers), "symbols": dict(self.symbols), "prompts": self.prompts}

    @classmethod
    def _of_rows(
        cls, numbers: Sequence[dict[str, float]], symbols: Sequence[dict[str, tuple[str, ...]]], prompts: Sequence[str]
    ) -> Traits:
        names = (list(numbers[0]), list(symbols[0])) if numbers else ([], [])
        columns = {n: torch.tensor([float(row[n]) for row in numbers], dtype=torch.float64) for n in names[0]}
        return cls(columns, {n: tuple(row[n] for row in symbols) for n in names[1]}, tuple(prompts))


def _of_ids(ids: Sequence[int], text: str, codec: TraceCodec) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    finished = bool(ids) and ids[-1] == codec.eos_id
    body = list(ids[:-1] if finished else ids)
    numbers = {
        "tokens": len(ids),
        "characters_per_token": len(text) / max(1, len(body)),
        "canonical_tokens": codec.encode_completion(text)[:-1] == body,
        "ends_with_eos": finished,
    }
    first, last = ([f"{codec.decode([i])!r} #{i}" for i in part] for part in (body[:_FIRST], body[: -_LAST - 1 : -1]))
    return numbers, {"first_tokens": placed(first), "last_tokens": placed(last)}
