"""The numbers behind the pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from rairl_lightning.evaluation.localisation.natural import ScoredSteps
from rairl_lightning.evaluation.localisation.plots import (
    MOST_THRESHOLDS,
    draw_offsets,
    draw_thresholds,
    offset_rows,
    threshold_rows,
)
from rairl_lightning.evaluation.plots import write_plot


def scored(labels: list[int], scores: torch.Tensor) -> ScoredSteps:
    count = len(labels)
    steps, halves = torch.ones(scores.shape, dtype=torch.bool), torch.arange(count) % 2 == 1
    return ScoredSteps(torch.tensor(labels), steps, torch.arange(count), halves, {"reward": scores}, ("",) * count)


def test_the_curve_by_hand() -> None:
    """Step 1 of the first is wrong: right above -1 and up to 1; the second is cleared up to 0."""
    rows = threshold_rows(scored([1, -1], torch.tensor([[1.0, -1.0], [0.0, 2.0]]).double()))
    worked = [(-1, 0, 1), (-0.5, 1, 1), (0.5, 1, 0), (2, 0, 0)]
    assert [(row["threshold"], row["accuracy_erroneous"], row["accuracy_correct"]) for row in rows] == worked
    assert [row["f1"] for row in rows] == [0, 1, 0, 0]


def test_a_curve_of_many_thresholds_is_thinned() -> None:
    scores = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)).double()
    rows = threshold_rows(scored([0, -1] * 1500, scores))
    assert MOST_THRESHOLDS / 2 < len(rows) <= MOST_THRESHOLDS
    assert [row["threshold"] for row in rows] == sorted(row["threshold"] for row in rows)


def test_offsets_by_hand() -> None:
    solutions = scored([1, 2, 0, -1, 1, 1], torch.zeros(6, 3).double())
    rows = offset_rows(solutions, torch.tensor([1, 0, 0, 2, -1, -2]))
    assert rows == [{"predicted_minus_true": -2, "solutions": 1}, {"predicted_minus_true": 0, "solutions": 2}]


@pytest.mark.parametrize("found", [True, False])
def test_a_picture_lies_beside_its_numbers(tmp_path: Path, found: bool) -> None:
    solutions = scored([1, -1], torch.tensor([[1.0, -1.0], [0.0, 2.0]]).double())
    offsets = offset_rows(solutions, torch.tensor([1 if found else -1, -1]))
    write_plot(tmp_path, "offsets", offsets, draw_offsets)
    write_plot(tmp_path, "thresholds", threshold_rows(solutions), draw_thresholds)
    for name, rows in (("offsets", offsets), ("thresholds", threshold_rows(solutions))):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        read = list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
        assert [list(map(float, row.values())) for row in read] == [list(row.values()) for row in rows]
