"""Given steps as characters and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rairl_lightning.data.traces import ProcessSteps
from rairl_lightning.data.traces.base import LabelledSteps
from rairl_lightning.evaluation.localisation.solutions import rendered_steps, span_columns, step_traces
from rairl_lightning.models import BackboneSpec
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.loading import load_tokenizer
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.steps import step_spans
from rairl_lightning.types import TokenBatch


@pytest.fixture(scope="module")
def codec(base: Path) -> TraceCodec:
    return TraceCodec(load_tokenizer(BackboneSpec(str(base))))


def solution(*steps: str, answer: str | None = None, label: int = 0, id: str = "a") -> LabelledSteps:
    return LabelledSteps(id, "gate 7", steps, label, answer)


STEPS = ["1 + 2 = 3", "so:\n  go left\nthen on", "go left", "go left", " and stop \n"]


@pytest.mark.parametrize("answer", [None, "left"])
def test_characters_and_tokens_are_those_of_the_steps(codec: TraceCodec, answer: str | None) -> None:
    """Several lines in one step, the same step twice, white space around."""
    (one,), left_out = step_traces([solution(*STEPS, answer=answer)], codec)
    assert not left_out
    assert [one.text[start:end] for start, end in one.characters] == [step.strip() for step in STEPS]
    for (start, end), (first, last) in zip(one.characters, one.tokens, strict=True):
        offsets = one.trace.char_offsets
        covering = [t for t, (a, b) in enumerate(offsets) if a < end and b > start]
        assert (first, last) == (covering[0], covering[-1])
    assert len(set(one.tokens)) == len(STEPS), "equal steps stand at different places"


def test_the_layout_is_that_of_demonstrations(codec: TraceCodec) -> None:
    closed, _ = rendered_steps(["a", " b "], "left")
    assert closed == render_completion("a\nb", "left")
    (one,), _ = step_traces([solution("1 + 2 = 3", "go left", answer="left")], codec)
    assert one.trace.completion_ids[-1] == codec.eos_id
    assert (
        list(one.trace.completion_ids[:-1])
        == codec.encode_completion(render_completion("1 + 2 = 3\ngo left", "left"))[:-1]
    )
    ends = [one.trace.char_offsets[last][1] for _, last in one.tokens]
    assert ends == [end for _, end in step_spans(one.text)[:2]], "our own steps, where the given ones are lines"


def test_an_unknown_answer_leaves_the_reasoning_open(codec: TraceCodec) -> None:
    (one,), _ = step_traces([solution("go left")], codec)
    assert one.text == "<think>\ngo left" and codec.eos_id not in one.trace.completion_ids


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (solution("go </think> left"), "a tag in the text"),
        (solution("go left", answer="<answer>left"), "a tag in the text"),
        (solution("go left", " \n"), "an empty step"),
        (solution("go ß"), "text the tokenizer cannot hold"),
        (solution(*["go left"] * 40), "longer than the context"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_counted(codec: TraceCodec, given: LabelledSteps, reason: str) -> None:
    good = solution("go left", id="good")
    traces, left_out = step_traces([given, good, given], codec, longest=60)
    assert [one.solution.id for one in traces] == ["good"] and dict(left_out) == {reason: 2}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(st.sampled_from(list("go left12+=\n .")), min_size=1).filter(str.strip), min_size=1, max_size=5)
)
def test_any_steps_are_found_again(codec: TraceCodec, steps: list[str]) -> None:
    (one,), _ = step_traces([solution(*steps)], codec)
    assert [one.text[start:end] for start, end in one.characters] == [step.strip() for step in steps]
    lasts = [last for _, last in one.tokens]
    assert lasts == sorted(lasts) and all(first <= last for first, last in one.tokens)
    assert all(
        one.trace.char_offsets[last][1] >= end for (_, end), (_, last) in zip(one.characters, one.tokens, strict=True)
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_columns_follow_the_padding(codec: TraceCodec, side: str) -> None:
    traces, _ = step_traces([solution(*STEPS), solution("go left", answer="left")], codec)
    tokens = TokenBatch.from_traces([one.trace for one in traces], codec.pad_id, side=side)
    spans = span_columns(traces, tokens)
    assert spans.shape == (2, 5, 2) and spans[1, 1:].eq(-1).all()
    for row, one in enumerate(traces):
        for step, (first, last) in enumerate(one.tokens):
            a, b = spans[row, step].tolist()
            assert tokens.input_ids[row, a : b + 1].tolist() == list(one.trace.completion_ids[first : last + 1])


REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "process" / "processbench_gsm8k.jsonl"


@pytest.mark.skipif(not REAL.is_file(), reason=f"real ProcessBench is not at {REAL}")
def test_real_solutions_are_read() -> None:
    """The small tokenizer knows no character outside of ASCII; all else is read, with the steps where they stand."""
    codec = TraceCodec(load_tokenizer(BackboneSpec("builtin:dials")))
    solutions = ProcessSteps(str(REAL)).solutions()
    plain = [one for one in solutions if all(text.isascii() for text in (*one.steps, one.answer or ""))]
    traces, left_out = step_traces(solutions, codec)
    assert len(solutions) == 183 and len(plain) > 120
    assert [one.solution.id for one in traces] == [one.id for one in plain]
    assert left_out == {"text the tokenizer cannot hold": len(solutions) - len(plain)}
    for one in traces:
        assert [one.text[a:b] for a, b in one.characters] == [step.strip() for step in one.solution.steps]
