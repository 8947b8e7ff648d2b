import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from rairl_lightning.data.rollout_buffer import RolloutBuffer
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.types import TokenBatch, TraceIds

PAD = 0


def trace(number: int) -> TraceIds:
    length = 1 + number % 3
    return TraceIds([number, PAD], [number] * length, [False] * (length - 1) + [True], [(0, 0)] * length)


def a_round(*numbers: int, side: str = "right") -> TokenBatch:
    return TokenBatch.from_traces([trace(number) for number in numbers], PAD, side=side)


def filled(rounds: int = 3) -> RolloutBuffer:
    buffer = RolloutBuffer(rounds)
    for numbers in ((1, 2), (3,), (4, 5, 6), (7, 8)):
        buffer.push(a_round(*numbers))
    return buffer


def kept(buffer: RolloutBuffer) -> set[int]:
    return {one.prompt_ids[0] for one in buffer.sample(len(buffer), random.Random(0))}


def test_the_oldest_round_leaves() -> None:
    assert kept(filled(3)) == {3, 4, 5, 6, 7, 8}
    assert kept(filled(1)) == {7, 8}
    assert len(filled(0)) == 0 and filled(0).sample(4, random.Random(0)) == []


@pytest.mark.parametrize(("rounds", "left"), [(0, {3, 4, 5, 6, 7, 8}), (1, {3, 4, 5, 6}), (2, {3}), (9, set())])
def test_the_latest_rounds_can_be_forgotten(rounds: int, left: set[int]) -> None:
    buffer = filled(3)
    buffer.forget(rounds)
    assert kept(buffer) == left


@pytest.mark.parametrize("side", ["left", "right"])
def test_traces_come_back_as_they_were(side: str) -> None:
    buffer = RolloutBuffer(1)
    buffer.push(a_round(1, 2, 3, side=side))
    assert sorted(buffer.sample(9, random.Random(0)), key=len) == [trace(3), trace(1), trace(2)]


def test_sampling_is_uniform_over_traces_without_replacement_and_seeded() -> None:
    buffer, rng = filled(), random.Random(0)
    counts: Counter[int] = Counter()
    for _ in range(3000):
        drawn = [one.prompt_ids[0] for one in buffer.sample(2, rng)]
        assert len(set(drawn)) == 2
        counts.update(drawn)
    assert all(abs(count - 1000) < 120 for count in counts.values()), "a trace of a small round is as likely"
    assert buffer.sample(3, random.Random(5)) == buffer.sample(3, random.Random(5))
    assert len(buffer.sample(100, rng)) == len(buffer) == 6


def test_what_is_kept_does_not_follow_the_batch() -> None:
    buffer, batch = RolloutBuffer(1), a_round(1)
    buffer.push(batch)
    batch.input_ids.fill_(9)
    assert kept(buffer) == {1}


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    buffer = filled()
    torch.save(buffer.state_dict(), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    assert all(t.dtype in (torch.int32, torch.bool) for one in state["rounds"] for t in one.values())
    other = RolloutBuffer(3)
    other.load_state_dict(state)
    assert other.sample(6, random.Random(1)) == buffer.sample(6, random.Random(1))
    shorter = RolloutBuffer(1)
    shorter.load_state_dict(state)
    assert kept(shorter) == {7, 8}


@pytest.mark.parametrize("state", [{}, {"rounds": 3}, {"rounds": [{"input_ids": torch.zeros(1, 1)}]}])
def test_foreign_state_is_refused_and_changes_nothing(state: dict) -> None:
    buffer = filled()
    with pytest.raises(CheckpointError, match="cannot be read"):
        buffer.load_state_dict(state)
    assert len(buffer) == 6


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="replay_rounds >= 0"):
        RolloutBuffer(-1)
