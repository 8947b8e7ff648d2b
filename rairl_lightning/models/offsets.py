"""Token ids to text, with the characters each token covers.

Offsets come from the ids, never from encoding the text again: a sampled completion need not be what the tokenizer
would produce for its text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from tokenizers import decoders
from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
REPLACEMENT = "\ufffd"
LONGEST_CHARACTER = 4  # bytes of UTF-8


def _byte_alphabet() -> dict[str, int]:
    """Character to byte of byte-level BPE: printable Latin-1 stands for itself, the others follow from U+0100."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(own)]
    return {chr(b): b for b in own} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_OF_CHARACTER = _byte_alphabet()


class Decoder(ABC):
    """Decodes ids into text and one character span per id; special tokens are empty."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special |= set(tokenizer.all_special_ids)

    @abstractmethod
    def __call__(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """Return the text and, for each id, the ``(start, end)`` characters it takes part in.

        A character built of several tokens belongs to each of them.
        """


class ByteDecoder(Decoder):
    """Exact decoder for tokenizers whose tokens are byte strings (byte-level BPE, or plain concatenation)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        self._alphabet = BYTE_OF_CHARACTER if isinstance(_backend_decoder(tokenizer), decoders.ByteLevel) else None
        self._bytes: dict[int, bytes] = dict.fromkeys(self.special, b"")

    def __call__(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """See :class:`Decoder`."""
        pieces = [self._piece(i) for i in ids]
        text, character_of_byte = _decode_utf8(b"".join(pieces))
        spans, start = [], 0
        for piece in pieces:
            end = start + len(piece)
            first = character_of_byte[start] if start < len(character_of_byte) else len(text)
            spans.append((first, character_of_byte[end - 1] + 1) if piece else (first, first))
            start = end
        return text, spans

    def _piece(self, token_id: int) -> bytes:
        piece = self._bytes.get(token_id)
        if piece is None:
            # Ids between the vocabulary and the padded width of the head have no token.
            token = self.tokenizer.convert_ids_to_tokens(token_id) or ""
            alphabet = self._alphabet
            if alphabet is not None and all(character in alphabet for character in token):
                piece = bytes(alphabet[character] for character in token)
            else:
                piece = token.encode()
            self._bytes[token_id] = piece
        return piece


class WindowDecoder(Decoder):
    """Decoder for every other tokenizer: decodes a short window again with each id and takes what is new."""

    def __call__(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """See :class:`Decoder`."""
        text, own = "", []
        for count, piece in self._pieces([i for i in ids if i not in self.special]):
            own += [(len(text), len(text) + len(piece))] * count
            text += piece
        spans, remaining, end = [], iter(own), 0
        for i in ids:
            span = (end, end) if i in self.special else next(remaining)
            spans.append(span)
            end = span[1]
        return text, spans

    def _pieces(self, ids: list[int]) -> Iterator[tuple[int, str]]:
        """Yield how many ids make the next characters, and those characters."""
        context: list[int] = []  # ids of the piece before: a tokenizer may strip the space of the very first one
        pending: list[int] = []  # ids whose last character is not complete yet
        for i in ids:
            pending.append(i)
            new = self._new(context, pending)
            if not new.endswith(REPLACEMENT) or len(pending) == LONGEST_CHARACTER:
                yield len(pending), new
                context, pending = pending, []
        if pending:
            yield len(pending), self._new(context, pending)

    def _new(self, context: list[int], pending: list[int]) -> str:
        def decode(part: list[int]) -> str:
            return self.tokenizer.decode(part, clean_up_tokenization_spaces=False)

        return decode([*context, *pending])[len(decode(context)) :] if context else decode(pending)


def decoder_for(tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """The exact decoder where tokens are bytes, else the windowed one."""
    exact = isinstance(_backend_decoder(tokenizer), decoders.ByteLevel | decoders.Fuse)
    return ByteDecoder(tokenizer) if exact else WindowDecoder(tokenizer)


def _backend_decoder(tokenizer: PreTrainedTokenizerBase) -> object:
    return tokenizer.backend_tokenizer.decoder if tokenizer.is_fast else None


def _decode_utf8(raw: bytes) -> tuple[str, Sequence[int]]:
    """Decode with U+FFFD for what is no UTF-8; also return, for each byte, the index of its character."""
    if raw.isascii():
        return raw.decode("ascii"), range(len(raw))
    text, owner = "", []
    while raw:
        try:
            good, bad, raw = raw.decode(), 0, b""
        except UnicodeDecodeError as error:
            good, bad, raw = raw[: error.start].decode(), error.end - error.start, raw[error.end :]
        for character in good:
            owner += [len(text)] * len(character.encode())
            text += character
        if bad:
            owner += [len(text)] * bad
            text += REPLACEMENT
    return text, owner
