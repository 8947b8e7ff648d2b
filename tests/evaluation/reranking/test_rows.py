"""The reranked traces as they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reranked import POOLING, scored

from rairl_lightning.evaluation.calibration import NoCalibration
from rairl_lightning.evaluation.reranking.pool import pool_of
from rairl_lightning.evaluation.reranking.rows import reranked_rows

FITTED = NoCalibration().fit(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
NAN = float("nan")


def test_each_trace_by_hand() -> None:
    one = scored(
        "q", "rww?-", [1.0, 2.0, 2.0, NAN, -1.0], "ABBCD", logprobs=[-1, -3, -2, -1, -4], lengths=[5, 4, 6, 7, 4]
    )
    rows = list(reranked_rows(one, POOLING, FITTED, "reported"))
    assert [row["id"] for row in rows] == [f"q-{i}" for i in range(5)], "the fields as they were read, in their order"
    assert [row["rank"] for row in rows] == [3, 1, 1, 5, 4]
    assert [row["reward"] for row in rows] == [1.0, 2.0, 2.0, None, -1.0]
    assert [row["grade"] for row in rows] == ["right", "wrong", "wrong", "unknown", "unanswered"]
    assert rows[4]["extracted_answer"] is None and rows[0]["extracted_answer"] == "A"
    assert [row["chosen_by"] for row in rows] == [
        ["logprob"],
        ["reward", "weighted", "majority", "shortest"],
        ["reward", "weighted", "majority"],
        ["logprob"],
        ["shortest"],
    ]
    assert rows[0]["probability"] == pytest.approx(0.731059) and rows[3]["probability"] is None
    assert {row["split"] for row in rows} == {"reported"}


def test_traces_without_a_record_are_written_in_full() -> None:
    one = scored("q", "r", [0.0])
    (row,) = reranked_rows(replace(one, sampled=replace(one.sampled, records=())), POOLING, FITTED, "selection")
    assert (row["prompt"], row["completion"], row["split"]) == ("q", "q 0 A", "selection")


def test_fields_of_the_input_are_kept() -> None:
    one = scored("q", "r", [0.5])
    record = {"reward": 9, "answer": "the right one", "split": "test"}
    (row,) = reranked_rows(replace(one, sampled=replace(one.sampled, records=(record,))), POOLING, FITTED, "reported")
    assert (row["reward"], row["answer"], row["split"]) == (0.5, "the right one", "reported")
    assert row["input"] == {"reward": 9, "split": "test"}


def test_a_product_votes_with_its_probability() -> None:
    products = (-800.0, -801.0, -801.0)
    one = scored("q", "rww", products, "ABB")
    product = replace(one, rewards={POOLING: products}, log_weights={POOLING: products})
    assert "weighted" in next(reranked_rows(product, POOLING, FITTED, "reported"))["chosen_by"], "1 > 2 e^-1"
    values, _ = pool_of([product], POOLING).chosen_right(3)
    assert values["weighted"].item() == 1
    near = replace(one, rewards={POOLING: (0.0, -0.8, -0.8)})
    assert "weighted" not in next(reranked_rows(near, POOLING, FITTED, "reported"))["chosen_by"]  # control


def test_nobody_answers_nobody_wins() -> None:
    rows = list(reranked_rows(scored("q", "--", [NAN, NAN], logprobs=[NAN, NAN]), POOLING, FITTED, "reported"))
    assert [row["chosen_by"] for row in rows] == [["shortest"], ["shortest"]]
    assert [row["rank"] for row in rows] == [1, 1]
