"""One splitter for training, scoring and evaluation."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.steps import LONG_LINE, step_spans

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
PIECES = [*TAGS, "\n", "\r\n", " ", "a", "1", ".", "3.5", "e.g. ", "! ", '."', "-"]
messy = st.lists(st.sampled_from(PIECES), max_size=400).map("".join) | st.text()


def pieces(text):
    return [text[start:end] for start, end in step_spans(text)]


def long(*sentences):
    """One line of these sentences, padded beyond the length from which lines are split."""
    return " ".join([*sentences, "word " * LONG_LINE + "end."])


def test_a_line_is_a_step_and_the_answer_block_is_the_last():
    text = render_completion("2 + 2 = 4. So far so good.\n\n- then 4 * 3 = 12\n1. done", "12")
    assert pieces(text) == [
        "2 + 2 = 4. So far so good.",
        "- then 4 * 3 = 12",
        "1. done",
        "<answer>\n12\n</answer>",
    ]


def test_spans_are_positions_in_the_whole_text():
    text = "<think>\n  first \nsecond\n</think>\n<answer>\n1\n</answer>\n"
    assert step_spans(text) == [(10, 15), (17, 23), (33, 53)]


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (["She has 3.75 eggs.", "He has 4."], ["She has 3.75 eggs.", "He has 4."]),
        (["Use a fruit, e.g. an apple.", "Eat it!"], ["Use a fruit, e.g. an apple.", "Eat it!"]),
        (["Dr. Lee and J. Smith came.", "Why?"], ["Dr. Lee and J. Smith came.", "Why?"]),
        (["It cost approx. 5 vs. 6 dollars.", "Ok."], ["It cost approx. 5 vs. 6 dollars.", "Ok."]),
        (['He said "no."', "She left."], ['He said "no."', "She left."]),
        (["The total is 20.", "Then 5 are left."], ["The total is 20.", "Then 5 are left."]),
        (["Do this:", "1. Add them.", "2. Take half."], ["Do this: 1. Add them.", "2. Take half."]),
        (["It is 5 ft. tall, 3 ft. wide, 9 ft.", "So."], ["It is 5 ft. tall, 3 ft. wide, 9 ft.", "So."]),
        (["Boca Co. has No. 21 since Jan. 5.", "No.", "Yes."], ["Boca Co. has No. 21 since Jan. 5.", "No.", "Yes."]),
        (["So 4! / (3! * 1!) = 4.", "You get 5!", "Fine."], ["So 4! / (3! * 1!) = 4.", "You get 5!", "Fine."]),
        (["Hmm... the sum is 3...", "Then so"], ["Hmm... the sum is 3..."]),
        (['He yells "stop!" and goes.', 'Why "no?"', "Ok."], ['He yells "stop!" and goes.', 'Why "no?"', "Ok."]),
        (["It is **5.**", "And $x = 2.5.$", "Ok."], ["It is **5.**", "And $x = 2.5.$", "Ok."]),
        (["是３.5。因为二。", "对！"], ["是３.5。", "因为二。", "对！"]),
        (["See https://example.org/a.b now.", "Next."], ["See https://example.org/a.b now.", "Next."]),
    ],
)
def test_a_paragraph_is_split_after_its_sentences(sentences, expected):
    assert pieces(long(*sentences))[:-1] == expected


def test_a_short_line_is_not_split():
    text = "One. Two. Three."
    assert pieces(text) == [text]
    assert len(pieces((text + " ") * 20)) == 60
    assert len(pieces("One.Two." * 40)) == 1, "no white space, no boundary"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\n ", []),
        ("<think>\n</think>", []),
        ("---\n***\n\\[", []),
        ("no tags", ["no tags"]),
        ("<think>a\nb", ["a", "b"]),
        ("<think>a</think>b<answer>5", ["a", "b", "<answer>5"]),
        ("<think>a</think><answer>5\n6. \n", ["a", "<answer>5\n6."]),
        ("<answer>5</answer> more\ntext", ["<answer>5</answer>", "more", "text"]),
        ("</answer>a</think>b", ["a", "b"]),
        ("<answer>1<think>2</answer>3", ["<answer>1<think>2</answer>", "3"]),
        ("a\r\nb\rc", ["a", "b", "c"]),
        ("a\u2028b\x85c\vd\u2003e", ["a", "b", "c", "d\u2003e"]),  # an em space is none of them
    ],
)
def test_malformed_and_cut_text(text, expected):
    assert pieces(text) == expected


@given(messy)
def test_spans_are_disjoint_ordered_trimmed_and_lose_no_letter_or_digit(text):
    spans = step_spans(text)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    assert all(piece == piece.strip() for piece in pieces(text))
    rest = "".join(text[a:b] for a, b in zip(ends, [*(start for start, _ in spans), len(text)], strict=True))
    for tag in TAGS:
        rest = rest.replace(tag, "")
    assert not any(character.isalnum() for character in rest)


@pytest.mark.parametrize(
    "unit",
    [
        "a. ",
        "<answer>",
        "<think>x",
        "</answer>",
        ".",
        "\n",
        " ",
        "!'",
        "A. ",
        "4! / ",
        "... a",
        "。",
        "!\"''\"",
        "1. ",
        "e.g. ",
        "x" * 50 + ". ",
    ],
)
def test_time_is_linear(unit):
    def seconds(size):
        text = unit * (size // len(unit))
        started = time.process_time()  # a busy machine takes none of it
        step_spans(text)
        return time.process_time() - started

    small, large = (min(seconds(size) for _ in range(3)) for size in (20_000, 200_000))
    assert large < 40 * small + 0.05  # quadratic time would be 100 times
