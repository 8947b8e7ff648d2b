"""Who is a positive, who a negative, and which of them an update sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch

from rairl_lightning.algorithms.labelled import Draw, LabelledTraces
from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.components import ExpertsOnly
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import Demonstration, Perturbed, Rollouts, TokenBatch, TraceIds, TrainBatch


def traces(*numbers: int) -> TokenBatch:
    return TokenBatch.from_traces(
        [TraceIds([n], [n] * (1 + n % 3), [True] * (1 + n % 3), [(0, 1)] * (1 + n % 3)) for n in numbers], 0
    )


def labelled(positives: int, negatives: int, perturbed: int = 0) -> LabelledTraces:
    """Numbered from 1, positives first, perturbed ones last."""
    labels = torch.tensor([True] * positives + [False] * (negatives + perturbed))
    corrupted = torch.arange(len(labels)) >= positives + negatives
    return LabelledTraces(traces(*range(1, len(labels) + 1)), labels, torch.full(labels.shape, -1), corrupted)


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
    assert made.is_perturbed_M.int().tolist() == [0] * 8 + [1] and made.perturbed_share == pytest.approx(1 / 5)


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
    drawn = Draw(count)(labelled(positives, negatives), torch.Generator().manual_seed(0))
    labels = drawn.labels_expert_is_one_M
    assert (int(labels.sum()), int((~labels).sum())) == expected
    assert len(set(ids(drawn.tokens))) == len(drawn), "without replacement"
    assert [number <= positives for number in ids(drawn.tokens)] == labels.tolist(), "labels stay with their traces"


def test_every_trace_is_drawn_in_its_turn() -> None:
    generator, counts, everything = torch.Generator().manual_seed(0), torch.zeros(13), labelled(4, 8)
    for _ in range(2000):
        counts[ids(Draw(4)(everything, generator).tokens)] += 1
    assert torch.allclose(counts[1:5], torch.tensor(1000.0), atol=80)
    assert torch.allclose(counts[5:], torch.tensor(500.0), atol=80)


def test_none_draws_all_as_they_are() -> None:
    everything = labelled(3, 4)
    assert Draw()(everything, torch.Generator()) is everything


# --- Share of perturbed negatives ---------------------------------------------------------------------------------

S = 0.25


@pytest.mark.parametrize(
    ("there", "count", "share", "expected"),
    [  # (positives, negatives, perturbed)
        ((10, 20, 20), 16, S, (8, 6, 2)),
        ((10, 20, 20), 16, 0.0, (8, 8, 0)),
        ((10, 20, 20), 16, 1.0, (8, 0, 8)),
        ((10, 20, 20), 16, 0.6, (8, 3, 5)),
        ((10, 20, 1), 16, 0.5, (8, 7, 1)),  # too few: takes what there is, and fills up
        ((10, 2, 20), 16, S, (8, 2, 6)),
        ((10, 20, 0), 16, S, (8, 8, 0)),
        ((2, 20, 20), 16, 0.5, (2, 7, 7)),  # few positives leave more room
        ((10, 30, 4), None, S, (10, 12, 4)),  # of all: as many as keep the share
        ((10, 3, 30), None, S, (10, 3, 1)),
        ((10, 30, 4), None, 0.0, (10, 30, 0)),
        ((10, 30, 4), None, 1.0, (10, 0, 4)),
        ((10, 30, 0), None, S, (10, 30, 0)),  # the kind is not there at all
        ((10, 0, 4), None, S, (10, 0, 4)),
        ((10, 7, 3), None, 0.3, (10, 7, 3)),
        ((10, 30, 4), 99, S, (10, 12, 4)),  # a batch larger than the round is all of it
    ],
)
def test_a_share_of_the_negatives_is_perturbed(
    there: tuple[int, int, int], count: int | None, share: float, expected: tuple[int, int, int]
) -> None:
    drawn = Draw(count, share)(labelled(*there), torch.Generator().manual_seed(0))
    numbers, (positives, negatives, _) = torch.tensor(ids(drawn.tokens)), there
    kinds = (numbers <= positives, (numbers > positives) & (numbers <= positives + negatives))
    kinds = (*kinds, numbers > positives + negatives)
    assert tuple(int(kind.sum()) for kind in kinds) == expected
    assert torch.equal(drawn.labels_expert_is_one_M, kinds[0]) and torch.equal(drawn.is_perturbed_M, kinds[2])
    assert drawn.perturbed_share == pytest.approx(expected[2] / (expected[1] + expected[2]))
    assert len(set(numbers.tolist())) == len(numbers), "without replacement"


def test_every_kind_is_drawn_at_random() -> None:
    generator, counts, everything = torch.Generator().manual_seed(0), torch.zeros(17), labelled(4, 8, 4)
    for _ in range(2000):
        counts[ids(Draw(8, 0.5)(everything, generator).tokens)] += 1
    assert counts[1:5].eq(2000).all(), "all four positives"
    assert torch.allclose(counts[5:13], torch.tensor(500.0), atol=80)
    assert torch.allclose(counts[13:], torch.tensor(1000.0), atol=80)


@pytest.mark.parametrize("count", [4, 9, 16, None])
def test_without_a_share_a_draw_is_what_it_was(count: int | None) -> None:
    everything = labelled(6, 7, 5)
    drawn = Draw(count)(everything, torch.Generator().manual_seed(3))
    order = torch.randperm(18, generator=torch.Generator().manual_seed(3))
    if count is None:
        assert drawn is everything
        return
    positive, negative = order[order < 6], order[order >= 6]
    take = min(6, max(count // 2, count - 12))
    assert ids(drawn.tokens) == [int(row) + 1 for row in [*positive[:take], *negative[: count - take]]]


def test_pairs_survive_a_share() -> None:
    one = labelled(2, 4, 4)
    paired = replace(one, rivals_M=torch.tensor([-1, -1, 0, 1, 0, 1, 0, 1, 0, 1]))
    drawn = Draw(4, 0.5)(paired, torch.Generator().manual_seed(0), keep_pairs=True)
    rivals = drawn.rivals_M[~drawn.labels_expert_is_one_M]
    assert (rivals >= 0).all() and drawn.labels_expert_is_one_M[rivals].all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="perturbed_share"):
        gates.module(None, perturbed_share=share)


def test_the_share_reaches_training_and_is_logged(base: Path, tmp_path: Path) -> None:
    """Two prompts with two perturbed copies each against eight rollouts and what is replayed."""

    def shares(**settings: Any) -> list[float]:
        trainer = gates.trainer(tmp_path)
        module = gates.module(gates.full(base), labelling=ExpertsOnly(), rounds=1, warmup=Warmup(2), **settings)
        trainer.fit(module, datamodule=gates.data(perturbed_copies=2, replayed=0))
        return trainer.logger.having("discriminator/perturbed_share")

    assert shares(perturbed_share=0.5) == [0.5] * 2
    assert shares(perturbed_share=0.5, discriminator_batch=6) == pytest.approx([2 / 4] * 2)
    assert shares(perturbed_share=0.0) == [0.0] * 2
    assert shares() == pytest.approx([4 / 12] * 2), "negative control: what there is"
