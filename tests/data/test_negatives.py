import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import gates
import pytest

from rairl_lightning.data.negatives import PerturbedDemonstrations
from rairl_lightning.functional.localisation import span_tokens
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.perturbations import BorrowedStep, NudgedAnswer, NumberCorruption, OperatorFlip
from rairl_lightning.types import Demonstration


@pytest.fixture(scope="module")
def codec(base: Path) -> Any:
    return gates.full(base).load_codec()


@pytest.fixture(scope="module")
def demonstrations() -> tuple[Any, ...]:
    return tuple(map(gates.solution, range(6)))


def test_spans_point_at_the_tokens_that_changed(codec: Any, demonstrations: Any) -> None:
    made = PerturbedDemonstrations([OperatorFlip(), NumberCorruption()], codec)(demonstrations, 2, random.Random(0))
    assert len(made.tokens) == len(made.kinds) == 12 and set(made.kinds) == {"OperatorFlip", "NumberCorruption"}
    marked = span_tokens(made.tokens.char_offsets, made.tokens.completion_mask, made.spans)
    for row, (trace, source) in enumerate(zip(made.tokens.traces(), made.sources, strict=True)):
        expert = demonstrations[source]
        before = render_completion(expert.reasoning, expert.answer)
        after = codec.decode(trace.completion_ids)
        start, stop = made.spans[row].tolist()
        rest = len(after) - stop
        assert after[:start] == before[:start] and after[stop:] == before[len(before) - rest :]
        assert after[start:stop] != before[start : len(before) - rest]
        touching = [first < stop and last > start for first, last in trace.char_offsets]
        assert touching == marked[row, made.tokens.completion_mask[row]].tolist() and any(touching)
        assert trace.prompt_ids == codec.encode_prompt(expert.prompt)


def test_corruptions_are_those_of_the_same_generator(codec: Any, demonstrations: Any) -> None:
    make = PerturbedDemonstrations([OperatorFlip(), NumberCorruption()], codec)
    first, again, other = (make(demonstrations, 1, random.Random(seed)).tokens.traces() for seed in (0, 0, 1))
    assert first == again != other


def test_an_example_is_corrupted_alike_whatever_the_order(codec: Any, demonstrations: Any) -> None:
    make = PerturbedDemonstrations([OperatorFlip(), NumberCorruption(), BorrowedStep()], codec)
    forth, back = (make(given, 2, random.Random(0)) for given in (demonstrations, demonstrations[::-1]))
    by_source = [
        sorted((int(s), t.completion_ids, k) for s, t, k in zip(m.sources, m.tokens.traces(), m.kinds, strict=True))
        for m in (forth, replace(back, sources=len(demonstrations) - 1 - back.sources))
    ]
    assert by_source[0] == by_source[1]
    assert len({tuple(t.completion_ids) for t in forth.tokens.traces()}) > len(demonstrations), "copies differ"


def test_each_borrows_from_the_others_and_never_from_the_same_prompt(codec: Any) -> None:
    make = PerturbedDemonstrations([BorrowedStep()], codec)
    first = Demonstration("a", "gate 1", "go left", "left")
    second = Demonstration("b", "gate 2", "turn 5 + 2 = 7\nwait there", "right")
    made = make([first, second], 1, random.Random(0))
    texts = [codec.decode(trace.completion_ids) for trace in made.tokens.traces()]
    assert "wait there" in texts[0] and "go left" in texts[1]
    again = make([first, replace(second, prompt="gate 1")], 1, random.Random(0))
    assert len(again.tokens) == 0 and make.rejected == {"BorrowedStep": 2}


def test_rejections_are_counted_by_kind(codec: Any, demonstrations: Any) -> None:
    make = PerturbedDemonstrations([NudgedAnswer()], codec)
    made = make(demonstrations, 2, random.Random(0))
    assert len(made.tokens) == 0 and made.spans.shape == (0, 2) and made.sources.shape == (0,)
    assert make.rejected == {"NudgedAnswer": 12}


@pytest.mark.parametrize(("perturbations", "copies"), [([], 2), ([OperatorFlip()], 0)])
def test_nothing_to_do_makes_nothing(codec: Any, demonstrations: Any, perturbations: Any, copies: int) -> None:
    assert len(PerturbedDemonstrations(perturbations, codec)(demonstrations, copies, random.Random(0)).tokens) == 0


def test_the_answer_of_the_expert_stays_where_only_the_reasoning_is_changed(codec: Any, demonstrations: Any) -> None:
    made = PerturbedDemonstrations([OperatorFlip()], codec)(demonstrations, 1, random.Random(0))
    for trace, source in zip(made.tokens.traces(), made.sources, strict=True):
        text = codec.decode(trace.completion_ids)
        expert = demonstrations[source]
        assert extract_answer(text) == expert.answer and text != render_completion(expert.reasoning, expert.answer)
