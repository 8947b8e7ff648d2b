import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rairl_lightning.errors import DataError
from rairl_lightning.types import Rollouts, TokenBatch, TraceIds

PAD = 99


@st.composite
def a_trace(draw: st.DrawFn) -> TraceIds:
    """Ids may equal the pad; a completion may be empty."""
    ids = st.integers(0, PAD)
    prompt = draw(st.lists(ids, min_size=1, max_size=5))
    completion = draw(st.lists(ids, max_size=6))
    count = len(completion)
    ends = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return TraceIds(prompt, completion, ends, [(2 * i, 2 * i + 2) for i in range(count)])


some_traces = st.lists(a_trace(), min_size=1, max_size=4)
sides = st.sampled_from(["left", "right"])


def equal(first: TokenBatch, second: TokenBatch) -> bool:
    names = ("input_ids", "attention_mask", "completion_mask", "step_ends", "char_offsets")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_columns_of_a_padded_trace() -> None:
    trace = TraceIds([7, 8], [9, PAD], [True, False], [(0, 1), (1, 3)])
    longer = TraceIds([1], [2, 3, 4, 5], [False] * 4, [(0, 0)] * 4)
    right = TokenBatch.from_traces([trace, longer], PAD)
    left = TokenBatch.from_traces([trace, longer], PAD, side="left")
    assert right.input_ids[0].tolist() == [7, 8, 9, PAD, PAD]
    assert right.attention_mask[0].tolist() == [True, True, True, True, False], "an id that equals the pad is a token"
    assert left.input_ids[0].tolist() == [PAD, 7, 8, 9, PAD]
    assert left.completion_mask[0].int().tolist() == [0, 0, 0, 1, 1]
    assert left.step_ends[0].int().tolist() == [0, 0, 0, 1, 0]
    assert left.char_offsets[0].tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [1, 3]]
    assert left.position_ids[0].tolist() == [0, 0, 1, 2, 3] and right.position_ids[0].tolist() == [0, 1, 2, 3, 3]
    assert right.lengths_N.tolist() == [4, 5] and right.completion_lengths_N.tolist() == [2, 4]


@given(some_traces, sides)
def test_traces_come_back(traces: list[TraceIds], side: str) -> None:
    assert TokenBatch.from_traces(traces, PAD, side=side).traces() == traces


@given(some_traces, sides)
def test_positions_count_real_tokens_only(traces: list[TraceIds], side: str) -> None:
    batch = TokenBatch.from_traces(traces, PAD, side=side)
    for row, trace in enumerate(traces):
        assert batch.position_ids[row, batch.attention_mask[row]].tolist() == list(range(len(trace)))


@given(some_traces, some_traces, sides, sides)
def test_cat_keeps_every_trace(first: list[TraceIds], second: list[TraceIds], side: str, other: str) -> None:
    empty = TokenBatch.from_traces([], PAD)
    parts = [TokenBatch.from_traces(first, PAD, side=side), empty, TokenBatch.from_traces(second, PAD, side=other)]
    assert TokenBatch.cat(parts, PAD).traces() == [*first, *second]


def test_cat_of_nothing_is_empty() -> None:
    assert len(TokenBatch.cat([], PAD)) == 0
    assert equal(TokenBatch.cat([TokenBatch.from_traces([], PAD)], PAD), TokenBatch.from_traces([], PAD))


@given(some_traces, sides, st.data())
def test_select_is_what_padding_the_selected_gives(traces: list[TraceIds], side: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(traces) - 1), min_size=1, max_size=5))
    selected = TokenBatch.from_traces(traces, PAD, side=side).select(rows)
    assert equal(selected, TokenBatch.from_traces([traces[row] for row in rows], PAD, side=side))


@given(some_traces, sides)
def test_select_with_cuts_other_tensors_alike(traces: list[TraceIds], side: str) -> None:
    batch = TokenBatch.from_traces(traces, PAD, side=side)
    rows = torch.arange(len(traces)).flip(0)
    selected, ids, positions = batch.select_with(rows, batch.input_ids, batch.position_ids)
    assert torch.equal(ids, selected.input_ids)
    assert torch.equal(positions[selected.attention_mask], selected.position_ids[selected.attention_mask])


def rollouts(count: int, group_size: int) -> Rollouts:
    tokens = TokenBatch.from_traces([TraceIds([1], [2], [True], [(0, 1)])] * count, PAD)
    logprobs = torch.zeros(tokens.input_ids.shape)
    return Rollouts(tokens, logprobs, torch.ones(count, dtype=torch.bool), ("x",) * count, group_size)


@pytest.mark.parametrize(("count", "group_size"), [(5, 2), (4, 0), (1, 4)])
def test_a_split_group_is_refused(count: int, group_size: int) -> None:
    with pytest.raises(DataError, match="group was split"):
        rollouts(count, group_size)


def test_whole_groups_are_accepted() -> None:
    assert len(rollouts(6, 3)) == 6
