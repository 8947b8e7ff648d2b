"""Who is a positive, who a negative, and which of them an update sees."""

from __future__ import annotations

import pytest
import torch

from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.types import Demonstration, Perturbed, Rollouts, TokenBatch, TraceIds, TrainBatch


def traces(*numbers: int) -> TokenBatch:
    return TokenBatch.from_traces(
        [TraceIds([n], [n] * (1 + n % 3), [True] * (1 + n % 3), [(0, 1)] * (1 + n % 3)) for n in numbers], 0
    )


def labelled(positives: int, negatives: int) -> LabelledTraces:
    labels = torch.tensor([True] * positives + [False] * negatives)
    return LabelledTraces(traces(*range(1, positives + negatives + 1)), labels, torch.full(labels.shape, -1))


def ids(tokens: TokenBatch) -> list[int]:
    return tokens.input_ids[:, 0].tolist()


def test_a_round_by_hand() -> None:
    demonstrations = tuple(Demonstration(str(n), "", "", "") for n in (1, 2))
    corrupted = Perturbed(traces(31), torch.zeros(1, 2, dtype=torch.int32), torch.zeros(1, dtype=torch.int64), ("x",))
    batch = TrainBatch(demonstrations, ((1,), (2,)), traces(1, 2), corrupted, traces(21, 22))
    tokens = traces(11, 12, 13, 14)
    rollouts = Rollouts(tokens, torch.zeros(tokens.input_ids.shape), torch.ones(4).bool(), ("",) * 4, 2)
    made = LabelledTraces.of_round(batch, rollouts, torch.tensor([False, True, False, True]), 0)
    assert ids(made.tokens) == [1, 2, 11, 12, 13, 14, 21, 22, 31]
    assert made.labels_expert_is_one_M.int().tolist() == [1, 1, 0, 1, 0, 1, 0, 0, 0]


def test_a_round_without_replay_and_perturbations() -> None:
    nothing = Perturbed(traces(), torch.zeros(0, 2, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), ())
    batch = TrainBatch((Demonstration("1", "", "", ""),), ((1,),), traces(1), nothing, traces())
    tokens = traces(11, 12)
    rollouts = Rollouts(tokens, torch.zeros(tokens.input_ids.shape), torch.ones(2).bool(), ("",) * 2, 2)
    made = LabelledTraces.of_round(batch, rollouts, torch.tensor([False, False]), 0)
    assert ids(made.tokens) == [1, 11, 12] and made.labels_expert_is_one_M.int().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("positives", "negatives", "count", "expected"),
    [
        (10, 10, 8, (4, 4)),
        (2, 10, 8, (2, 6)),
        (10, 2, 8, (6, 2)),
        (0, 10, 8, (0, 8)),
        (10, 10, 5, (2, 3)),
        (3, 3, 9, (3, 3)),
    ],
)
def test_half_of_a_draw_is_positive_where_there_are_enough(
    positives: int, negatives: int, count: int, expected: tuple[int, int]
) -> None:
    drawn = labelled(positives, negatives).draw(count, torch.Generator().manual_seed(0))
    labels = drawn.labels_expert_is_one_M
    assert (int(labels.sum()), int((~labels).sum())) == expected
    assert len(set(ids(drawn.tokens))) == len(drawn), "without replacement"
    assert [number <= positives for number in ids(drawn.tokens)] == labels.tolist(), "labels stay with their traces"


def test_every_trace_is_drawn_in_its_turn() -> None:
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(13)
    for _ in range(2000):
        counts[ids(labelled(4, 8).draw(4, generator).tokens)] += 1
    assert torch.allclose(counts[1:5], torch.tensor(1000.0), atol=80)
    assert torch.allclose(counts[5:], torch.tensor(500.0), atol=80)


def test_none_draws_all_as_they_are() -> None:
    everything = labelled(3, 4)
    assert everything.draw(None, torch.Generator()) is everything
