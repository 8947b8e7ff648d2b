"""Anybody's text in the layout that rewards are trained on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.data.traces import AsIs, Tagged
from rairl_lightning.text.chat import parse_completion, render_completion

PETS = ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "completion", "answer"),
    [
        ("Cats purr. The answer is (A).", render_completion("Cats purr.", "A"), "A"),
        ("Cats purr. The answer is cat.", render_completion("Cats purr.", "A"), "A"),
        ("The answer is (A).", render_completion("The answer is (A).", "A"), "A"),
        ("Cats purr, and", "<think>\nCats purr, and", None),
        ("The answer is A or B.", "<think>\nThe answer is A or B.", None),
        ("", "", None),
        (render_completion("x", "A"), render_completion("x", "A"), "A"),
        (" <answer>A</answer>\n", " <answer>A</answer>\n", "A"),
        ("<answer>A</answer><answer>B</answer>", "<answer>A</answer><answer>B</answer>", None),
        ("<think>x", "<think>x", None),
        ("<think>\nCats purr.\n</think>\n\nSo cats. The answer is (A).", render_completion("Cats purr.", "A"), "A"),
        ("Cats purr.\n</think>\nThe answer is (A).", render_completion("Cats purr.", "A"), "A"),
        ("<think>\nx\n</think>\nno idea", "<think>\nx\n</think>\nno idea", None),
        (
            "a <think> b <think> c </think> The answer is (A).",
            "a <think> b <think> c </think> The answer is (A).",
            None,
        ),
        ("The answer is (A).</answer>", "The answer is (A).</answer>", None),
    ],
)
def test_tagged(text: str, completion: str, answer: str | None) -> None:
    assert Tagged()(text, PETS) == (completion, answer)


def test_as_is_changes_nothing_and_reads_either_kind_of_answer() -> None:
    for text, answer in (("x. The answer is (A).", "A"), ("<answer>B</answer>", "B"), ("x", None), ("<answer>B", None)):
        assert AsIs()(text, PETS) == (text, answer)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "The answer is (A). ", "x. ", "\n"])))
def test_an_answer_that_is_told_is_in_the_answer_block(pieces: list[str]) -> None:
    completion, answer = Tagged()("".join(pieces), PETS)
    assert answer is None or parse_completion(completion).answer == answer
    assert Tagged()(completion, PETS) == (completion, answer), "laying out twice changes nothing"
