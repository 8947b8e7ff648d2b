"""The whole report: by hand, under permutation, and where there is little to report."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reranked import POOLING, scored, shuffled, some
from rich.console import Console

from rairl_lightning.evaluation.calibration import Isotonic, NoCalibration, Temperature
from rairl_lightning.evaluation.reranking import run
from rairl_lightning.evaluation.reranking.partition import Partition
from rairl_lightning.evaluation.reranking.plots import PLOTS, write_plots
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.evaluation.reranking.report import RerankingReport, report_of
from rairl_lightning.evaluation.reranking.table import print_report
from rairl_lightning.evaluation.summary import write_summary

SIZES = (2, 4, 8, 16)


def report(
    questions: list[ScoredQuestion], calibration: Any = NoCalibration(), fraction: float = 0.0
) -> RerankingReport:
    return report_of(Partition.by_hash(questions, fraction), [POOLING], calibration, SIZES, 0)[0]


def strict(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_two_questions_by_hand() -> None:
    """Of two traces each, the reward picks the right one once; the other question has none."""
    found = report([scored("a", "rw", [2.0, 1.0], category="x"), scored("b", "ww", [0.0, 1.0], "BB", category="y")])
    (n,) = found.best_of
    section = found.best_of[n]["all"]
    assert n == "2" and section["questions"] == 2 and found.best_of[n]["left_out"] == 0
    means = {rule: bounds[0] for rule, bounds in section["right"].items()}
    assert means == {
        "reward": 0.5,
        "weighted": 0.5,
        "majority": 0.25,
        "logprob": 0.25,
        "shortest": 0.25,
        "random": 0.25,
        "oracle": 0.5,
    }
    assert section["over_random"]["reward"] == [0.25, 0.0, 0.5] == section["over_majority"]["reward"]
    assert "oracle" not in section["over_random"] and "majority" not in section["over_majority"]
    assert found.best_of[n]["categories"]["x"]["right"]["reward"] == [1, 1, 1]
    assert found.pass_at_k == {"1": [0.25, 0.0, 0.5], "2": [0.5, 0.0, 1.0]}
    # The right trace, at 2, is above the wrong ones at 1, 0 and 1; within its question there is one pair.
    assert found.auroc["overall"][0] == 1 and found.auroc["within_question"][0] == 1


def test_the_mean_of_categories_weighs_them_alike() -> None:
    questions = [scored(f"a{i}", "rw", [1.0, 0.0], category="often") for i in range(8)]
    questions += [scored(f"b{i}", "rw", [0.0, 1.0], category="rarely") for i in range(2)]
    sections = report(questions).best_of["2"]
    assert sections["all"]["right"]["reward"][0] == 0.8
    assert sections["macro"]["right"]["reward"] == [0.5, 0.5, 0.5], "1 and 0, and neither can vary"
    assert sections["macro"]["over_random"]["reward"][0] == 0.0
    assert {name: one["questions"] for name, one in sections["categories"].items()} == {"often": 8, "rarely": 2}
    alone = report(questions[:8]).best_of["2"]
    assert alone["macro"] == {} == alone["categories"], "one category is all"


def test_no_figure_depends_on_the_order_of_questions_or_traces(tmp_path: Path) -> None:
    """N = 8 of 16, whose subsets are drawn, too; to the last digit."""
    questions = some(30, 16, ties=True)

    def figures(seed: int | None) -> Any:
        given = questions
        if seed is not None:
            draw = random.Random(seed)
            given = draw.sample([shuffled(one, draw.sample(range(16), 16)) for one in questions], 30)
        write_summary(tmp_path / "figures.json", report(given, Isotonic(), 0.3).figures())
        return strict(tmp_path / "figures.json")

    first = figures(None)
    assert figures(1) == first == figures(2)
    assert set(first["best_of"]) == {"2", "4", "8", "16"} and first["selection"]["questions"] > 0
    assert report(some(30, 16, seed=1), Isotonic(), 0.3).figures()["best_of"] != first["best_of"]  # control


def test_gains_are_paired() -> None:
    """Questions differ far more than the rules do on each: unpaired, no gain could be told."""
    easy = [scored(f"e{i}", "rrrrrrrw", [1.0] * 7 + [0.0]) for i in range(20)]
    hard = [scored(f"h{i}", "wwwwwwwr", [1.0] * 7 + [1.0]) for i in range(20)]
    section = report(easy + hard).best_of["8"]["all"]
    gain, low, high = section["over_random"]["reward"]
    assert gain == pytest.approx(0.5 * (1 - 7 / 8), abs=1e-4) and low > 0.03 and high < 0.1
    _, low, high = section["right"]["reward"]
    assert high - low > 0.2  # control


def test_means_are_those_of_the_questions() -> None:
    questions = some(40, 4)
    right = [np.mean([grade.value == "right" for grade in one.sampled.grades]) for one in questions]
    found = report(questions)
    assert found.best_of["4"]["all"]["right"]["random"][0] == pytest.approx(np.mean(right), abs=1e-4)
    assert found.best_of["4"]["all"]["right"]["reward"][0] > np.mean(right) + 0.05, "these rewards know something"
    blind = report(some(200, 4, informative=0.0))
    _, low, high = blind.best_of["4"]["all"]["over_random"]["reward"]
    assert low < 0 < high  # control


def test_groups_that_are_too_small_are_left_out_and_counted() -> None:
    found = report([*some(5, 8), *some(3, 4, seed=1), scored("one", "r", [1.0])])
    assert {n: (one["all"]["questions"], one["left_out"]) for n, one in found.best_of.items()} == {
        "2": (8, 1),
        "4": (8, 1),
        "8": (5, 4),
    }
    assert found.pass_at_k_questions == {"1": 9, "2": 8, "4": 8, "8": 5} and list(found.pass_at_k) == [
        "1",
        "2",
        "4",
        "8",
    ]
    assert found.figures()["pass@k_questions"]["8"] == 5
    out = io.StringIO()
    print_report(found, Console(file=out, width=140))
    assert "pass@8 (5)" in out.getvalue()


def test_a_question_twice_is_resampled_as_one() -> None:
    """Five copies of two questions know no more than two questions do."""

    def intervals(names: list[str]) -> tuple[list[float], list[float], list[float]]:
        parts = [(f"{easy} {name}", grades) for name in names for easy, grades in (("one", "rrrw"), ("two", "wwwr"))]
        found = report([scored(name, grades, [1.0, 0.5, 0.2, 0.7]) for name, grades in parts])
        return found.best_of["4"]["all"]["right"]["reward"], found.pass_at_k["1"], found.auroc["overall"]

    copies = [" " * (n + 1) for n in range(5)]  # white space aside
    assert intervals(copies)[:2] == ([0.5, 0.0, 1.0], [0.5, 0.25, 0.75]) == intervals(["x"])[:2]
    reward, share, area = intervals([str(n) for n in range(5)])  # control
    assert reward[2] - reward[1] < 0.8 and share[2] - share[1] < 0.4
    alike = intervals(copies)[2]
    assert area[0] == alike[0] and alike[2] - alike[1] > 1.2 * (area[2] - area[1])


LITTLE = {
    "one trace": [scored("a", "r", [1.0]), scored("b", "w", [0.0])],
    "all right": [scored("a", "rr", [1.0, 2.0]), scored("b", "rr", [0.0, 0.5])],
    "all wrong": [scored("a", "w-", [1.0, 2.0]), scored("b", "ww", [0.0, 0.5])],
    "all tied": [scored("a", "rw", [1.0, 1.0]), scored("b", "wr", [1.0, 1.0])],
    "no rewards": [scored("a", "rw", [float("nan")] * 2), scored("b", "wr", [float("nan")] * 2)],
    "one question": [scored("a", "rw", [1.0, 2.0])],
    "huge rewards": [scored("a", "rw", [1e30, -1e30]), scored("b", "rw", [float("inf"), float("-inf")])],
    "markup": [scored("[bold]a", "rw", [1.0, 0.0], category="[red]x"), scored("b", "rw", [1.0, 0.0], category="y")],
}


@pytest.mark.parametrize("questions", LITTLE.values(), ids=LITTLE)
def test_little_to_report_is_reported(questions: list[ScoredQuestion], tmp_path: Path) -> None:
    found = report(questions)
    write_summary(tmp_path / "summary.json", found.figures())
    figures = strict(tmp_path / "summary.json")
    assert figures["counts"]["questions"] == len(questions)
    write_plots(tmp_path, found)
    out = io.StringIO()
    print_report(found, Console(file=out, width=140))
    assert "Gain over random" in out.getvalue() and "[red]" not in out.getvalue().replace("[red]x (1)", "")


def test_without_both_kinds_there_is_no_area() -> None:
    assert np.isnan(report(LITTLE["all right"]).auroc["overall"]).all()
    assert report(LITTLE["all tied"]).auroc["within_question"][0] == 0.5
    assert np.isnan(report(LITTLE["no rewards"]).auroc["overall"]).all()


def test_traces_without_a_reward_are_no_merit_of_the_reward() -> None:
    """They are wrong mostly; ranked last they would lift an upside-down reward's area from 0 to 2/3."""
    upside_down = scored("a", "rwww", [0.0, 1.0, float("nan"), float("nan")])
    found = report([upside_down, scored("b", "ww", [float("nan")] * 2)])
    assert found.auroc == {"overall": [0, 0, 0], "within_question": [0, 0, 0]}
    assert found.counts["traces_without_reward"] == 4
    blind = report([scored("a", "rwww", [0.0, 1.0, -1.0, -2.0])])
    assert blind.auroc["overall"][0] == pytest.approx(2 / 3, abs=1e-4)  # control
    assert found.best_of["4"]["all"]["right"]["reward"][0] == 0, "to choose by, they rank last"


def test_the_figures_are_safe_before_anything_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scored("q", "rw", [1.0, 0.0])
    dated = replace(one, sampled=replace(one.sampled, records=({"day": date(2024, 5, 1)}, {"day": None})))
    partition = Partition((dated,))
    results = (partition, *report_of(partition, [POOLING], NoCalibration(), SIZES, 0), {})

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run, "write_rows", full)
    with pytest.raises(OSError, match="space"):
        run.write_results(tmp_path, *results)
    assert strict(tmp_path / "summary.json")["counts"]["traces"] == 2
    monkeypatch.undo()
    monkeypatch.setattr(run, "write_plots", lambda folder, report: None)
    run.write_results(tmp_path, *results)
    rows = [json.loads(line) for line in (tmp_path / "reranked.jsonl").read_text().splitlines()]
    assert [row["day"] for row in rows] == ["2024-05-01", None]


def test_pictures_show_the_numbers_beside_them(tmp_path: Path) -> None:
    found = report(some(30, 4), Temperature(), 0.3)
    write_plots(tmp_path, found)
    for name in PLOTS:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    accuracy = {(row["n"], row["rule"]): [float(row[k]) for k in ("right", "low", "high")] for row in rows("accuracy")}
    assert accuracy == {
        (n, rule): bounds for n, one in found.best_of.items() for rule, bounds in one["all"]["right"].items()
    }
    after = [row for row in rows("reliability") if row["calibration"] == "after"]
    assert [int(row["traces"]) for row in after] == [one["traces"] for one in found.calibration["after"]["curve"]]
    histogram = rows("rewards")
    counts = found.counts
    assert sum(int(row["right"]) for row in histogram) == counts["traces_right"]
    assert sum(int(row["wrong"]) for row in histogram) == counts["traces_wrong"]
    assert float(histogram[0]["low"]) < float(histogram[-1]["high"])


def test_the_table_shows_the_figures() -> None:
    out = io.StringIO()
    print_report(report(some(30, 4)), Console(file=out, width=140))
    text = out.getvalue()
    for word in ("N = 4", "majority", "oracle", "Best of 4 by category", "physics (10)", "mean of categories", "ECE"):
        assert word in text
