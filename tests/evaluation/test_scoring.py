"""Scores of files: the same whatever the batch, in order, resumable, with every oddity counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from traces import a_reward, completion, sampled

from rairl_lightning.components import Dense, Interval, Sparse, Step
from rairl_lightning.data.traces import AsIs, SampledQuestion, TraceFile, TraceSource
from rairl_lightning.errors import CheckpointError, ConfigError, DataError
from rairl_lightning.evaluation.long_traces import LeftOut, Refuse, Windows
from rairl_lightning.evaluation.reranking.pool import oddities
from rairl_lightning.evaluation.reranking.scoring import mean_logprobs, pooling_name, score_questions
from rairl_lightning.evaluation.resumable import ResumableLines
from rairl_lightning.evaluation.score_file import score_file
from rairl_lightning.evaluation.scoring import PROBLEMS, Trace, TraceScore, score_traces, traces_of
from rairl_lightning.evaluation.tally import Tally, print_tally
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.types import TokenBatch

SAME = 1e-5


class InMemory(TraceSource):
    def __init__(self, *questions: SampledQuestion) -> None:
        object.__setattr__(self, "listed", questions)

    def questions(self) -> Any:
        return iter(self.listed)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def reward(base: Path) -> TrainedReward:
    return a_reward(base)


@pytest.fixture
def some() -> list[Trace]:
    """Ten traces of lengths that go up and down."""
    questions = [sampled(gate, completion(gate % 4, "left"), completion(5 - gate, "right")) for gate in range(5)]
    return list(traces_of(InMemory(*questions)))


def scored(reward: TrainedReward, traces: Iterable[Trace], **settings: Any) -> list[TraceScore]:
    return [one for part in score_traces(reward, traces, **settings) for one in part]


def apart(first: list[TraceScore], second: list[TraceScore]) -> float:
    """Largest difference of any token's or trace's reward."""
    assert [one.trace for one in first] == [one.trace for one in second]
    pairs = [(a.reward, b.reward) for a, b in zip(first, second, strict=True)]
    pairs += [pair for a, b in zip(first, second, strict=True) for pair in zip(a.rewards, b.rewards, strict=True)]
    return max(abs(a - b) for a, b in pairs)


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


# --- Long traces --------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(base: Path) -> TrainedReward:
    """A context of thirty tokens."""
    reward = a_reward(base)
    reward.models.discriminator.decoder.config.max_position_embeddings = 30
    return reward


def test_a_long_trace_is_left_out_or_refused(narrow: TrainedReward) -> None:
    traces = list(traces_of(InMemory(sampled(3, completion(0), completion(9)))))
    short, long = scored(narrow, traces, long=LeftOut())
    assert short.reward is not None and long.reward is None and long.problems == ("too_long",)
    assert long.to_json(tokens=True)["tokens"]["reward"][:2] == [None, None]
    with pytest.raises(DataError, match="--long Windows"):
        scored(narrow, traces, long=Refuse())


@pytest.mark.parametrize("overlap", [0, 3, 8, 1000])
def test_windows_keep_each_token_from_where_it_has_most_context(
    narrow: TrainedReward, reward: TrainedReward, overlap: int
) -> None:
    trace = next(traces_of(InMemory(sampled(3, completion(9)))))
    (one,) = scored(narrow, [trace], long=Windows(overlap))
    ids, _ = narrow.codec.encode_trace(trace.question.prompt, trace.completion)
    prompt, count = len(ids.prompt_ids), len(ids.completion_ids)
    room = 30 - prompt
    back = min(overlap, room // 2)
    for token in range(count):
        start = 0
        while token >= start + room:  # the first window that holds it
            start += room - back
        window = ids.completion_ids[start : start + room]
        alone, _ = narrow.codec.trace(ids.prompt_ids, window)
        tokens = TokenBatch.from_traces([alone], narrow.codec.pad_id)
        logit = narrow.models.discriminator.score(tokens, 10_000)[0, prompt + token - start]
        assert one.rewards[token] == pytest.approx(float(logit.clamp(-5, 5)), abs=SAME)
    whole = scored(reward, [trace])[0].rewards
    assert list(one.rewards[:room]) == pytest.approx(list(whole[:room]), abs=SAME)
    assert max(abs(a - b) for a, b in zip(one.rewards, whole, strict=True)) > SAME, "negative control"


def test_the_log_probability_is_read_in_the_same_windows(narrow: TrainedReward, reward: TrainedReward) -> None:
    """Of a trace of two windows: each token by hand, from the window that keeps it."""
    policy, codec = narrow.models.policy, narrow.codec
    policy.causal_lm.config.max_position_embeddings = 30
    ids, _ = codec.encode_trace("gate 3", completion(4))
    prompt, room = len(ids.prompt_ids), 30 - len(ids.prompt_ids)
    assert room < len(ids.completion_ids) < 2 * room - 4

    def logprobs(owner: TrainedReward, completion_ids: list[int]) -> list[float]:
        tokens = TokenBatch.from_traces([codec.trace(ids.prompt_ids, completion_ids)[0]], codec.pad_id)
        return owner.models.policy.score(tokens, 10_000).logprobs[0, prompt:].tolist()

    by_hand = logprobs(narrow, ids.completion_ids[:room]) + logprobs(narrow, ids.completion_ids[room - 4 :])[4:]
    (found,) = mean_logprobs(narrow, [ids], Windows(4))
    assert found == pytest.approx(sum(by_hand) / len(by_hand), abs=SAME)
    whole = logprobs(reward, ids.completion_ids)
    assert len(whole) == len(by_hand) and abs(found - sum(whole) / len(whole)) > SAME, "negative control"
    (left_out,) = mean_logprobs(narrow, [ids])
    assert math.isnan(left_out)
    with pytest.raises(DataError, match="longer than the context"):
        mean_logprobs(narrow, [ids], Refuse())


def test_what_was_read_in_windows_is_counted(narrow: TrainedReward) -> None:
    traces = list(traces_of(InMemory(sampled(3, completion(0), completion(9)))))
    tally = Tally()
    tally.add(scored(narrow, traces, long=Windows()))
    assert tally.figures()["problems"] == dict.fromkeys(PROBLEMS, 0) | {"windowed": 1} and tally.scored == 2
    (question,) = InMemory(sampled(3, completion(0), completion(9))).questions()
    reranked = list(score_questions(narrow, [question], [narrow.reader.pooling], Windows()))
    assert oddities(reranked, pooling_name(narrow.reader.pooling))["traces_windowed"] == 1


@pytest.mark.parametrize(("prompt", "completion_", "context"), [(5, 50, 12), (1, 9, 3), (11, 40, 12), (0, 7, 1)])
def test_windows_cover_every_token_once(prompt: int, completion_: int, context: int) -> None:
    for overlap in range(8):
        windows = Windows(overlap).windows(prompt, completion_, context)
        kept = [token for one in windows for token in range(one.keep, one.stop)]
        assert kept == list(range(completion_))
        assert all(one.stop - one.start <= context - prompt and one.start <= one.keep for one in windows)
    assert Windows().windows(context, completion_, context) == [], "no room behind the prompt"


def test_a_negative_overlap_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        Windows(-1)


# --- Files --------------------------------------------------------------------------------------------------------

MADE = {"reward": "abc", "tokens": False}


def written(reward: TrainedReward, traces: list[Trace], file: Path, made: Any = MADE, stop: int | None = None) -> Tally:
    tally = Tally()
    with ResumableLines(file, made) as lines:
        for windows, tally in enumerate(score_file(reward, traces, lines, window=3)):  # noqa: B007
            if windows == stop:
                break
    return tally


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", ["", '{"id": "gate-', "\n\n{}\n"])
def test_an_interrupted_file_is_continued(
    reward: TrainedReward, some: list[Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, torn: str
) -> None:
    whole = written(reward, some, tmp_path / "whole.jsonl")
    written(reward, some, tmp_path / "cut.jsonl", stop=stop)
    done = len((tmp_path / "cut.jsonl").read_text().splitlines())
    assert done == 3 * stop
    with (tmp_path / "cut.jsonl").open("a") as file:
        file.write(torn)
    encoded: list[str] = []
    encode = reward.codec.encode_trace
    monkeypatch.setattr(reward.codec, "encode_trace", lambda *args: (encoded.append(args[1]), encode(*args))[1])
    tally = written(reward, some, tmp_path / "cut.jsonl")
    assert len(encoded) == 10 - done, "what was written is not scored again"
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert tally.figures() == whole.figures()


def test_a_finished_file_is_left_as_it_is(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    first = written(reward, some, tmp_path / "x.jsonl").figures()
    before = (tmp_path / "x.jsonl").read_bytes()
    assert written(reward, some, tmp_path / "x.jsonl").figures() == first
    assert (tmp_path / "x.jsonl").read_bytes() == before and len(before.splitlines()) == 10


def test_more_traces_at_the_end_are_added(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some[:5], tmp_path / "x.jsonl")
    written(reward, some, tmp_path / "x.jsonl")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 10


def test_another_input_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some, tmp_path / "x.jsonl", stop=2)
    before = (tmp_path / "x.jsonl").read_bytes()
    changes = (
        {"completion": "else"},
        {"answer": "?"},
        {"record": {**some[0].record, "model": "b"}},
        {"finished": False},
    )
    first = [*(replace(some[0], **change) for change in changes)]
    first.append(replace(some[0], question=replace(some[0].question, prompt="else")))
    for other in (some[1:], some[::-1], *([one, *some[1:]] for one in first)):
        with pytest.raises(DataError, match="not the one that the lines already written"):
            written(reward, other, tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="ends before the lines") as error:
        written(reward, some[:4], tmp_path / "x.jsonl")
    assert "--limit" in str(error.value)
    assert (tmp_path / "x.jsonl").read_bytes() == before


def test_another_reward_or_setting_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path) -> None:
    written(reward, some, tmp_path / "x.jsonl", stop=1)
    for made in ({"reward": "abd", "tokens": False}, {"reward": "abc", "tokens": True}, {"reward": "abc"}):
        with pytest.raises(CheckpointError, match="--overwrite true"):
            written(reward, some, tmp_path / "x.jsonl", made)


@pytest.mark.parametrize("how", ["edited", "shortened", "no note", "broken note", "odd note", "odd figures"])
def test_a_file_that_was_changed_is_refused(reward: TrainedReward, some: list[Trace], tmp_path: Path, how: str) -> None:
    file, meta = tmp_path / "x.jsonl", tmp_path / "x.meta.json"
    written(reward, some, file, stop=2)
    raw = file.read_bytes()
    match how:
        case "edited":
            file.write_bytes(raw.replace(b"gate-0", b"gate-9", 1))
        case "shortened":
            file.write_bytes(raw[:-2])
        case "no note":
            meta.unlink()
        case "broken note":
            meta.write_text("{")
        case "odd note":
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "lines": "6"}))
        case "odd figures":
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "notes": {"traces": 6}}))
    with pytest.raises(CheckpointError, match=r"cannot be (continued|read)[^$]*--overwrite true"):
        written(reward, some, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", None), ("scored", True), ("grades", [1]), ("problems", {"empty": "x"}), ("sums", {"right": [1, 2]})],
)
def test_damaged_figures_are_refused(name: str, value: object) -> None:
    notes = Tally(3, 2, 9, sums={"right": [2, 0.5, 0.25]}).notes()
    assert Tally.read(notes).notes() == notes
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tally.read({**notes, name: value})


def test_figures_by_hand_and_a_table(
    reward: TrainedReward, some: list[Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    tally = Tally()
    results = scored(reward, [*some, *traces_of(InMemory(sampled(1, "", "nothing")))])
    tally.add(results)
    figures = tally.figures()
    assert (figures["traces"], figures["scored"]) == (12, 11)
    assert figures["grades"] == {"right": 5, "wrong": 5, "unknown": 0, "unanswered": 2}
    assert figures["problems"]["empty"] == 1 and figures["problems"]["no_answer"] == 2
    right = [one.reward for one in results if one.trace.grade.value == "right"]
    mean = sum(right) / 5
    assert figures["reward"]["right"]["mean"] == pytest.approx(mean)
    assert figures["reward"]["right"]["deviation"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in right) / 5))
    assert Tally.read(json.loads(json.dumps(tally.notes()))).figures() == figures
    print_tally(figures, Console())
    out = capsys.readouterr().out
    assert "unanswered" in out and "1 empty: the completion has no text" in out and "unknown" not in out
