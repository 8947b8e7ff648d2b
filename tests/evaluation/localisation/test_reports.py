"""Both protocols on the toy language, from data to figures."""

from __future__ import annotations

import inspect
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from marked import MarkedGates

from rairl_lightning.components import Interval, LastToken, Sparse, StepDrop, StepMean, StepMinimum
from rairl_lightning.data.traces.base import LabelledSteps
from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.localisation import pairs as pairs_module
from rairl_lightning.evaluation.localisation.natural import score_steps
from rairl_lightning.evaluation.localisation.pairs import pair_figures
from rairl_lightning.evaluation.localisation.reports import PairsReport, report_pairs, report_solutions
from rairl_lightning.evaluation.localisation.rows import pair_rows, solution_rows
from rairl_lightning.evaluation.localisation.solutions import step_traces
from rairl_lightning.evaluation.summary import write_rows
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.functional.localisation import hits, span_tokens
from rairl_lightning.text import perturbations
from rairl_lightning.text.perturbations import EVERY_KIND, Negation, NumberCorruption, OperatorFlip
from rairl_lightning.types import Demonstration

GATES = [gates.solution(gate) for gate in range(12)]
KINDS = (OperatorFlip(), NumberCorruption())


def solutions(count: int = 24) -> list[LabelledSteps]:
    return MarkedGates(count).solutions()


def located(reward: TrainedReward, **settings: Any) -> PairsReport:
    return report_pairs(reward, GATES, KINDS, **{"copies": 2, "every": 4, **settings})


# --- Corrupted traces -----------------------------------------------------------------------------------------------


def test_a_question_is_one_whatever_its_white_space() -> None:
    texts = ["What is 1 + 1?", "what  is 1 + 1?\n", "What is 1 + 2?"]
    demonstrations = [Demonstration(str(row), text, "", "2") for row, text in enumerate(texts)]
    assert pairs_module._numbered(demonstrations) == [0, 0, 1]


def test_every_figure_has_every_method_and_level(toy_reward: TrainedReward) -> None:
    figures = located(toy_reward).figures
    assert figures["traces"] == 24 and figures["questions"] == 12
    assert figures["counts"]["kinds"].keys() == {"NumberCorruption", "OperatorFlip"} == figures["by_kind"].keys()
    assert sum(part["traces"] for part in figures["by_kind"].values()) == 24
    for name in ("hit@1", "mrr", "map"):
        assert list(figures[name]) == ["reward", "logprob_drop", "entropy_spike", "chance"]
        for levels in figures[name].values():
            assert list(levels) == ["token", "within_7", "interval", "within_1_interval", "step"]
            assert all(0 <= low <= value <= high <= 1 for value, low, high in levels.values())
    for method in ("logprob_drop", "entropy_spike"):
        gain = figures["gain"][method]["step"][0]
        assert gain == pytest.approx(
            figures["hit@1"]["reward"]["step"][0] - figures["hit@1"][method]["step"][0], abs=1e-4
        )
    assert figures["clean_preferred"].keys() == {"reward", "logprob"}


def test_the_rows_say_what_the_figures_count(toy_reward: TrainedReward, tmp_path: Path) -> None:
    report = located(toy_reward)
    write_rows(tmp_path / "rows.jsonl", pair_rows(report.pairs, report.demonstrations, toy_reward.codec))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for method in ("reward", "logprob_drop", "entropy_spike"):
        for level, (mean, _, _) in report.figures["hit@1"][method].items():
            assert sum(row["hit"][method][level] for row in rows) / len(rows) == pytest.approx(mean, abs=1e-4)
    for row in rows:
        start, stop = row["changed"]
        first, last = row["predicted"]["reward"]
        assert row["hit"]["reward"]["token"] == (first < stop and last > start)
        assert row["completion"][start:stop] and "<think>" in row["completion"]
    preferred = sum(row["clean"]["reward"] > row["corrupted"]["reward"] for row in rows) / len(rows)
    assert preferred == pytest.approx(report.figures["clean_preferred"]["reward"][0], abs=1e-4)
    assert {row["id"] for row in rows} == {one.id for one in GATES}


def test_batches_change_nothing(toy_reward: TrainedReward, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = located(toy_reward)
    monkeypatch.setattr(pairs_module, "BATCH", 5)
    parts = located(replace(toy_reward, max_tokens=40))
    assert parts.figures == whole.figures
    assert torch.equal(parts.pairs.located["reward"].columns_N, whole.pairs.located["reward"].columns_N)
    assert located(toy_reward, seed=1).figures != whole.figures, "control"


def test_columns_count_from_the_first_completion_token(toy_reward: TrainedReward) -> None:
    pairs = located(toy_reward).pairs
    tokens = pairs.perturbed.tokens
    target = span_tokens(tokens.char_offsets, tokens.completion_mask, pairs.perturbed.spans)
    first = tokens.completion_mask.long().argmax(1)
    one = pairs.located["reward"]
    assert torch.equal(hits(one.columns_N + first, target).double(), one.levels["token"].hit)


def test_the_mean_over_traces_is_kept_and_questions_are_resampled(toy_reward: TrainedReward) -> None:
    """Two copies of each question are not twice as many questions."""
    pairs = located(toy_reward).pairs
    every = torch.ones(24, dtype=torch.bool)
    hit = pairs.located["reward"].levels["step"].hit
    one_each = replace(pairs, questions_N=torch.arange(24))
    joint, apart = (pair_figures(p, every, 0)["hit@1"]["chance"]["token"] for p in (pairs, one_each))
    assert joint[0] == apart[0]
    assert pair_figures(pairs, every, 0)["hit@1"]["reward"]["step"][0] == pytest.approx(hit.mean().item(), abs=1e-4)
    assert joint != apart, "control"


def test_a_flat_reward_points_nowhere_and_prefers_nothing(flat_reward: TrainedReward) -> None:
    figures = located(flat_reward).figures
    assert figures["counts"]["points_nowhere"]["reward"] == 24 and figures["counts"]["not_finite"]["reward"] == 0
    for name in ("hit@1", "mrr", "map"):
        assert all(bound == [0, 0, 0] for bound in figures[name]["reward"].values())
        assert figures[name]["chance"]["step"][0] > 0
    assert figures["clean_preferred"]["reward"] == [0.5, 0.5, 0.5]


def test_a_broken_reward_is_counted_and_misses(broken_reward: TrainedReward) -> None:
    figures = located(broken_reward).figures
    assert figures["counts"]["not_finite"] == {"reward": 24, "logprob_drop": 0, "entropy_spike": 0}
    assert figures["counts"]["points_nowhere"]["reward"] == 0
    assert figures["hit@1"]["reward"]["step"] == [0, 0, 0] == figures["clean_preferred"]["reward"]


def test_a_sparse_reward_never_points(toy_reward: TrainedReward) -> None:
    sparse = replace(toy_reward, reader=replace(toy_reward.reader, granularity=Sparse()))
    figures = located(sparse).figures
    assert figures["counts"]["points_nowhere"]["reward"] == 24
    coarse = replace(toy_reward, reader=replace(toy_reward.reader, granularity=Interval(4)))
    assert located(coarse).figures["hit@1"]["logprob_drop"] == figures["hit@1"]["logprob_drop"]


def test_what_cannot_be_corrupted_is_counted(toy_reward: TrainedReward) -> None:
    plain = replace(GATES[0], id="plain", prompt="gate 99", reasoning="go left")
    counts = report_pairs(toy_reward, [*GATES, plain], [OperatorFlip()], every=4).figures["counts"]
    assert counts["demonstrations"] == 13 and counts["not_corrupted"] == 1
    assert counts["kind_did_not_apply"] == {"OperatorFlip": 1} and counts["kinds"] == {"OperatorFlip": 12}
    with pytest.raises(DataError, match="could be corrupted"):
        report_pairs(toy_reward, GATES, [Negation()])


def test_longer_than_the_context_is_left_out(toy_reward: TrainedReward) -> None:
    assert toy_reward.context == 1024
    long = replace(GATES[0], id="long", prompt="gate 98", reasoning="1 + 2 = 3\n" * 200 + "go left")
    counts = report_pairs(toy_reward, [*GATES, long], KINDS, every=4).figures["counts"]
    assert counts["longer_than_the_context"] == 1 and counts["not_corrupted"] == 0
    with pytest.raises(DataError, match="0 within the context"):
        report_pairs(toy_reward, [long], KINDS)


# --- Labelled solutions ---------------------------------------------------------------------------------------------


def test_a_report_by_subset_and_its_rows(toy_reward: TrainedReward, tmp_path: Path) -> None:
    report = report_solutions(toy_reward, solutions(), LastToken(), by=["source", "subset"])
    assert report.figures["subsets"].keys() == {"toy/even", "toy/odd"}
    assert sum(part["solutions"] for part in report.figures["subsets"].values()) == 24
    predicted, thresholds = report.predicted["reward"], report.thresholds["reward"]
    write_rows(tmp_path / "rows.jsonl", solution_rows(report.traces, report.scored, predicted, thresholds))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    accuracy = report.figures["all"]["accuracy_erroneous"]["reward"][0]
    erroneous = [row for row in rows if row["label"] >= 0]
    assert sum(row["predicted"] == row["label"] for row in erroneous) / 12 == pytest.approx(accuracy, abs=1e-4)
    for row in rows:
        texts = [row["completion"][step["start"] : step["end"]] for step in row["steps"]]
        assert texts == [step["text"] for step in row["steps"]]
        below = [k for k, step in enumerate(row["steps"]) if step["score"] < row["threshold"]]
        assert row["predicted"] == (below[0] if below else -1)
        assert row["steps"][0].keys() >= {"score", "logprob", "entropy"}


def test_scores_do_not_depend_on_the_batch(toy_reward: TrainedReward) -> None:
    traces, _ = step_traces(solutions(), toy_reward.codec)
    for score in (LastToken(), StepMean(), StepMinimum(), StepDrop()):
        whole = score_steps(toy_reward, traces, score)
        order = random.Random(0).sample(range(24), 24)
        parts = {}
        for rows in (order[:7], order[7:8], order[8:]):
            parts |= dict(zip(rows, score_steps(toy_reward, [traces[row] for row in rows], score), strict=True))
        for row in range(24):
            for method, values in whole[row].items():
                torch.testing.assert_close(parts[row][method], values, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole[0]["reward"], whole[1]["reward"], rtol=1e-5, atol=1e-5), "control"


def test_the_reward_is_read_where_the_step_ends(toy_reward: TrainedReward) -> None:
    (trace,), _ = step_traces(solutions(1), toy_reward.codec)
    (scores,) = score_steps(toy_reward, [trace], LastToken())
    batch = pairs_module.TokenBatch.from_traces([trace.trace], toy_reward.codec.pad_id)
    pay = toy_reward.score(batch).pay_NT[0, batch.completion_mask[0]]
    assert scores["reward"].tolist() == pytest.approx([pay[last].item() for _, last in trace.tokens])
    assert scores["reward_drop"][0].item() == pytest.approx(scores["reward"][0].item())
    assert scores["logprob_drop"][1].item() == pytest.approx((scores["logprob"][1] - scores["logprob"][0]).item())
    assert (scores["entropy"] <= 0).all() and (scores["logprob"] <= 0).all()


def test_a_broken_reward_predicts_nothing(broken_reward: TrainedReward) -> None:
    """NaN stands at the last token: in the answer, or in the last step where the reasoning is open."""
    report = report_solutions(broken_reward, solutions(), LastToken())
    broken = report.figures["counts"]["not_finite"]["reward"]
    assert broken == sum(one.answer is None for one in solutions()) and not report.figures["subsets"]
    predicted, thresholds = report.predicted["reward"], report.thresholds["reward"]
    rows = list(solution_rows(report.traces, report.scored, predicted, thresholds))
    assert sum(row["predicted"] is None for row in rows) == broken
    assert rows[1]["steps"][-1]["score"] is None


def test_what_is_left_out_is_counted(toy_reward: TrainedReward) -> None:
    odd = [replace(solutions()[0], id="tag", steps=("<think>",)), replace(solutions()[0], id="empty", steps=("a", ""))]
    counts = report_solutions(toy_reward, [*solutions(), *odd], LastToken()).figures["counts"]
    assert counts["solutions"] == 26 and counts["left_out"] == {"a tag in the text": 1, "an empty step": 1}
    with pytest.raises(DataError, match="No solution can be read"):
        report_solutions(toy_reward, odd, LastToken())


def test_every_kind_is_there_once() -> None:
    named = [getattr(perturbations, name) for name in perturbations.__all__]
    classes = {one for one in named if isinstance(one, type) and issubclass(one, perturbations.Perturbation)}
    assert {type(kind) for kind in EVERY_KIND} == {one for one in classes if not inspect.isabstract(one)}
    assert len(EVERY_KIND) == len({type(kind) for kind in EVERY_KIND})
