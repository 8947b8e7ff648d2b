"""Questions that can be recognised, and not read: how a reward says what it was trained on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field

from rairl_lightning.data.demonstrations.base import DIGEST_BYTES, question_digest
from rairl_lightning.errors import CheckpointError


@dataclass(frozen=True)
class QuestionHashes:
    """A set of questions by 48 bits of SHA-256 each, case and white space aside.

    Between a million questions and a million others 0.004 false matches are to be expected.

    >>> known = QuestionHashes.of(["How much is 1 + 1?"])
    >>> "how much is  1 + 1?" in known, known.count(["How much is 1 + 1?", "How much is 1 + 2?"])
    (True, 1)
    >>> QuestionHashes.unpacked(known.packed()) == known
    True

    Attributes:
        digests: 6 bytes each.
    """

    digests: frozenset[bytes] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, questions: Iterable[str]) -> QuestionHashes:
        """The set of these questions, as the user asks them."""
        return cls(frozenset(map(question_digest, questions)))

    @classmethod
    def unpacked(cls, text: object) -> QuestionHashes:
        """What :meth:`packed` gave; None, of a reward that does not say, is the empty set.

        Raises:
            CheckpointError: it is anything else.
        """
        try:
            raw = base64.b64decode("" if text is None else text, validate=True)  # type: ignore[arg-type]
        except (TypeError, ValueError, binascii.Error) as error:
            raise _unreadable(error) from error
        if len(raw) % DIGEST_BYTES:
            raise _unreadable(f"{len(raw)} bytes")
        return cls(frozenset(raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), DIGEST_BYTES)))

    def packed(self) -> str:
        """Sorted, one behind the other, in base64: 8 characters a question."""
        return base64.b64encode(b"".join(sorted(self.digests))).decode()

    def count(self, questions: Iterable[str]) -> int:
        """How many of these questions are in the set."""
        return sum(question in self for question in questions)

    def __contains__(self, question: str) -> bool:
        return question_digest(question) in self.digests

    def __len__(self) -> int:
        return len(self.digests)

    def __or__(self, other: QuestionHashes) -> QuestionHashes:
        return QuestionHashes(self.digests | other.digests)


def _unreadable(got: object) -> CheckpointError:
    return CheckpointError(
        "What the reward was trained on cannot be read.",
        expected=f"hashes of {DIGEST_BYTES} bytes each, in base64",
        got=got,
        remedy="take the reward.json, or the checkpoint, as it was written",
    )
