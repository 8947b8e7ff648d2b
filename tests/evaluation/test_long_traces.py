"""Traces longer than the context: left out, refused, or read in windows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scoring import InMemory, scored
from traces import a_reward, completion, sampled

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.evaluation.long_traces import LeftOut, Refuse, Windows
from rairl_lightning.evaluation.reranking.pool import oddities
from rairl_lightning.evaluation.reranking.scoring import mean_logprobs, pooling_name, score_questions
from rairl_lightning.evaluation.scoring import PROBLEMS, traces_of
from rairl_lightning.evaluation.tally import Tally
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.types import TokenBatch

SAME = 1e-5


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
