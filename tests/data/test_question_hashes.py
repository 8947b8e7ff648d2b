"""Questions by their hashes: found again however they are written, and refused where they are not hashes."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.errors import CheckpointError

KNOWN = QuestionHashes.of(["How much is 1 + 1?", "Which\npurrs?\nA. cat\nB. dog"])


def test_the_bytes_are_the_ones_that_the_format_says() -> None:
    """48 bits of SHA-256 of the normalised question each, sorted: any program can make them."""
    normal = [b"how much is 1 + 1?", b"which purrs? a. cat b. dog"]
    by_hand = sorted(hashlib.sha256(one).digest()[:6] for one in normal)
    assert KNOWN.packed() == base64.b64encode(b"".join(by_hand)).decode()


def test_case_and_white_space_do_not_tell_questions_apart_and_all_else_does() -> None:
    assert "how much  is 1 + 1?\n" in KNOWN and "Which purrs? A. cat B. dog" in KNOWN
    assert "How much is 1 + 2?" not in KNOWN and "" not in KNOWN
    assert KNOWN.count(["HOW MUCH IS 1 + 1?", "How much is 1 + 2?", "how much is 1 + 1?"]) == 2
    assert len(KNOWN) == 2 and not QuestionHashes()


@given(st.lists(st.text()), st.lists(st.text()))
def test_packing_keeps_the_set_and_a_union_holds_both(first: list[str], second: list[str]) -> None:
    one, other = QuestionHashes.of(first), QuestionHashes.of(second)
    assert QuestionHashes.unpacked(one.packed()) == one == QuestionHashes.of(reversed(first))
    assert one | other == QuestionHashes.of(first + second)
    assert all(question in one | other for question in first + second)


def test_a_lone_surrogate_is_a_question_too() -> None:
    assert "\ud800" in QuestionHashes.of(["\ud800"])


@pytest.mark.parametrize("text", ["AAAA", "not base64!", "é", 7, ["AAAAAAAA"], {}, True])
def test_what_is_no_set_of_hashes_is_refused(text: object) -> None:
    with pytest.raises(CheckpointError, match="trained on cannot be read"):
        QuestionHashes.unpacked(text)


def test_a_reward_that_does_not_say_was_trained_on_nothing_known() -> None:
    assert QuestionHashes.unpacked(None) == QuestionHashes.unpacked("") == QuestionHashes()
