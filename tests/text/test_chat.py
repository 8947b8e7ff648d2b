"""The layout of a trace is written and read by the same few lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.text.chat import DEFAULT_INSTRUCTION, Parsed, parse_completion, render_completion

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
messy = st.lists(st.sampled_from([*TAGS, "\n", " ", "5", "word", "<", "</"]), max_size=30).map("".join)
plain = st.text(st.characters(blacklist_characters="<>"), min_size=1).filter(str.strip)


def test_the_layout_is_exactly_this():
    assert render_completion(" 2 + 2 = 4\nSo 4.\n", "4 ") == (
        "<think>\n2 + 2 = 4\nSo 4.\n</think>\n<answer>\n4\n</answer>"
    )
    assert "<think>\n" in DEFAULT_INSTRUCTION and DEFAULT_INSTRUCTION.endswith("</answer>")


@given(plain, plain)
def test_what_is_rendered_is_parsed(reasoning, answer):
    assert parse_completion(render_completion(reasoning, answer)) == Parsed(reasoning.strip(), answer.strip(), True)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer", "well_formed"),
    [
        ("<think>a</think><answer>5</answer>", "a", "5", True),
        ("  <think>a</think>\n\n<answer>5</answer>\n", "a", "5", True),
        ("", None, None, False),
        ("no tags at all", None, None, False),
        ("<think>cut of", "cut of", None, False),
        ("<think>a</think><answer>5", "a", None, False),
        ("<think>a</think>so<answer>5</answer>", "a", "5", False),
        ("hello <think>a</think><answer>5</answer>", "a", "5", False),
        ("<think>a</think><answer>5</answer> bye", "a", "5", False),
        ("<answer>5</answer><think>a</think>", "a", "5", False),
        ("<think>a</think><think>b</think><answer>5</answer>", "a", "5", False),
        ("<think>a</think><answer>5</answer><answer>6</answer>", "a", "6", False),
        ("<think>a<answer>5</answer></think>", "a", "5", False),
        ("<think></think><answer>5</answer>", "", "5", False),
        ("<think>a</think><answer> </answer>", "a", "", False),
        ("<THINK>a</THINK><answer>5</answer>", None, "5", False),
    ],
)
def test_malformed_text_is_read_as_far_as_it_goes(text, reasoning, answer, well_formed):
    assert parse_completion(text) == Parsed(reasoning, answer, well_formed)


@given(messy)
def test_parsing_never_raises_and_well_formed_means_the_four_tags_in_order(text):
    parsed = parse_completion(text)
    if parsed.well_formed:
        assert "".join(render_completion(parsed.reasoning, parsed.answer).split()) == "".join(text.split())
