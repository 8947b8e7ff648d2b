"""Scores of files: the same whatever the batch, in order, resumable, with every oddity counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scoring import InMemory, apart, scored
from traces import a_reward, completion, sampled

from rairl_lightning.components import Dense, Interval, Sparse, Step
from rairl_lightning.data.traces import AsIs, SampledQuestion, TraceFile, TraceSource
from rairl_lightning.evaluation.long_traces import LeftOut
from rairl_lightning.evaluation.reranking.scoring import score_questions
from rairl_lightning.evaluation.scoring import Trace, traces_of
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.types import TokenBatch

SAME = 1e-5


# --- Invariance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", [Sparse(), Interval(4), Step(), Dense()], ids=lambda one: type(one).__name__)
def test_no_score_depends_on_batch_or_window_or_order(
    reward: TrainedReward, some: list[Trace], granularity: Any
) -> None:
    reward = replace(reward, reader=replace(reward.reader, granularity=granularity))
    alone = [one for trace in some for one in scored(reward, [trace])]
    assert apart(alone, scored(reward, some)) < SAME
    assert apart(alone, scored(replace(reward, max_tokens=1), some)) < SAME
    assert apart(alone, scored(reward, some, window=3)) < SAME
    order = [7, 2, 9, 0, 1, 8, 3, 5, 6, 4]
    assert apart([alone[i] for i in order], scored(reward, [some[i] for i in order])) < SAME
    assert len({one.reward for one in alone}) > 5, "negative control: traces differ"
    other = [replace(one, reward=one.reward + 10 * SAME) for one in alone]
    assert apart(alone, other) > SAME


@pytest.mark.parametrize("side", ["left", "right"])
def test_they_are_what_the_reward_says_of_the_tokens(reward: TrainedReward, some: list[Trace], side: str) -> None:
    codec = reward.codec
    ids = [codec.encode_trace(one.question.prompt, one.completion)[0] for one in some]
    tokens = TokenBatch.from_traces(ids, codec.pad_id, side=side)
    scores = reward.score(tokens)
    for row, one in enumerate(scored(reward, some)):
        own = scores.rewards_NT[row, tokens.completion_mask[row]]
        assert one.reward == pytest.approx(float(scores.traces_N[row]), abs=SAME)
        assert list(one.rewards) == pytest.approx(own.tolist(), abs=SAME)


def test_a_demonstration_is_read_as_in_training(reward: TrainedReward, some: list[Trace]) -> None:
    import gates

    expected = reward.codec.encode_demonstration(gates.solution(0))
    ids, text = reward.codec.encode_trace("gate 0", completion(1, "left"))
    assert ids == expected and text == completion(1, "left")
    cut, _ = reward.codec.encode_trace("gate 0", completion(1, "left").partition("</think>")[0])
    assert cut.completion_ids[-1] != reward.codec.eos_id, "nothing ended its turn"


def test_a_trace_ends_its_turn_as_its_file_says(reward: TrainedReward, tmp_path: Path) -> None:
    whole, cut = completion(1), completion(1).partition("</think>")[0]
    said = [(text, finished) for text in (whole, cut) for finished in (True, False, None)]
    rows = [{"prompt": "gate 3", "answer": "left", "completion": text, "finished": end} for text, end in said]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = TraceFile(str(tmp_path / "x.jsonl"), layout=AsIs())
    ones = scored(reward, traces_of(source))
    ended = [one.ids.completion_ids[-1] == reward.codec.eos_id for one in ones]
    assert ended == [True, False, True, True, False, False], "what is unknown is guessed from the tags"
    assert [one.text for one in ones] == [text for text, _ in said]
    assert ones[0].reward != ones[1].reward
    (reranked,) = score_questions(reward, source.questions(), [reward.reader.pooling], LeftOut())
    assert reranked.lengths == tuple(len(one.ids.completion_ids) for one in ones)


# --- What is written ----------------------------------------------------------------------------------------------


def test_steps_and_tokens_by_hand(reward: TrainedReward) -> None:
    reward = replace(reward, reader=replace(reward.reader, granularity=Step()))
    (one,) = scored(reward, traces_of(InMemory(sampled(3, completion(1), extra="kept"))))
    record = one.to_json(tokens=True)
    assert [step["text"] for step in record["steps"]] == ["1 + 2 = 3", "go left", "<answer>\nleft\n</answer>"]
    assert all(completion(1)[step["start"] : step["end"]] == step["text"] for step in record["steps"])
    tokens = record["tokens"]
    assert "".join(tokens["text"]) == completion(1) and len(tokens["text"]) == record["length"]
    assert sum(tokens["grid"]) == 3 and tokens["grid"][-1] == 1
    ends = [value for value, point in zip(tokens["reward"], tokens["grid"], strict=True) if point]
    last = [sum(1 for end in tokens["offsets"] if end[1] <= step["end"]) for step in record["steps"]]
    assert [step["reward"] for step in record["steps"]] == pytest.approx(ends, abs=2e-6), (last, ends)
    weights, start = [], 0
    for place, point in enumerate(tokens["grid"], start=1):
        if point:
            weights.append(place - start)
            start = place
    by_hand = sum(w * v for w, v in zip(weights, ends, strict=True)) / sum(weights)
    assert record["reward"] == pytest.approx(by_hand, abs=2e-6)
    assert (record["extra"], record["grade"], record["extracted_answer"]) == ("kept", "right", "left")
    assert "tokens" not in one.to_json(tokens=False)


def test_no_field_of_the_input_is_lost(reward: TrainedReward) -> None:
    (one,) = scored(reward, traces_of(InMemory(sampled(3, completion(1), steps=["theirs"], reward=7, answer="left"))))
    record = one.to_json(tokens=False)
    assert record["input"] == {"steps": ["theirs"], "reward": 7} and record["answer"] == "left"
    assert "completion" not in record["input"] and record["completion"] == one.trace.completion
    assert record["reward"] == one.reward and record["steps"][0]["start"] == 8


ODD = {
    "": (("empty", "no_answer"), False),
    " \n ": (("empty", "no_answer"), False),
    "no tags at all": (("no_answer",), True),
    "<think>\n1 + 2": (("no_answer",), True),
    "<answer>1</answer><answer>2</answer>": (("no_answer",), True),
    "<think>\n漢字\n</think>\n<answer>left</answer>": (("text_changed",), True),
    "<|eos|><|pad|> go": (("no_answer", "text_changed"), True),
}


@pytest.mark.parametrize("text", ODD)
def test_odd_traces_are_named(reward: TrainedReward, text: str) -> None:
    (one,) = scored(reward, traces_of(InMemory(sampled(3, text))))
    problems, has_reward = ODD[text]
    assert one.problems == problems and (one.reward is not None) == has_reward
    json.dumps(one.to_json(tokens=True), allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_no_reward(base: Path, some: list[Trace], value: float) -> None:
    broken = a_reward(base)
    with torch.no_grad():
        broken.models.discriminator.head.scalar.bias.fill_(value)
    (one, *_) = scored(broken, some)
    assert one.reward is None and one.problems[0] == "not_finite"
    text = json.dumps(json.loads(json.dumps(one.to_json(tokens=True))))
    assert one.to_json(tokens=False)["reward"] is None and "Infinity" not in text and "NaN" not in text


# --- Order --------------------------------------------------------------------------------------------------------


def test_traces_come_in_the_order_of_their_rows_and_wait_for_no_later_question() -> None:
    rows = ((1, 4), (2, 3, 3), (5,), (6, 9), (7, 8))
    questions = [replace(sampled(gate, *map(str, of)), rows=of) for gate, of in enumerate(rows)]
    asked: list[int] = []

    class Read(TraceSource):
        def questions(self) -> Iterator[SampledQuestion]:
            for number, question in enumerate(questions):
                asked.append(number)
                yield question

    traces = traces_of(Read())
    assert [next(traces).completion for _ in range(5)] == ["1", "2", "3", "3", "4"]
    assert asked == [0, 1, 2], "questions 3 and 4 begin behind what was asked for"
    assert [trace.completion for trace in traces] == ["5", "6", "7", "8", "9"]
    bare = [sampled(0, "1", "2"), sampled(1, "3")]
    assert [trace.completion for trace in traces_of(InMemory(*bare))] == ["1", "2", "3"]
