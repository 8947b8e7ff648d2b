"""The tables from runs written by hand; every verdict from both sides."""

import doctest
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import ablation_groups
import ablation_workers
import numpy as np
import pytest
from ablation_groups import Figure, Group, group_runs, over_seeds, results
from ablation_ledger import Ledger
from ablation_table import BEGIN, END, between_marks, make_table, render
from ablation_wanted import WANTED
from scipy import stats

from rairl_lightning.errors import DataError

PLACE = f"# Title\n\nbefore\n{BEGIN}\nold\n{END}\nafter\n"


def line(names: str, seed: int, measurements: dict[str, tuple[float | None, float, float]], **more: Any) -> dict:
    stage, algorithm, granularity, head, loss = names.split("/")
    return {
        "key": f"{names}/{seed}",
        "stage": stage,
        "algorithm": algorithm,
        "granularity": granularity,
        "head": head,
        "loss": loss,
        "seed": seed,
        "seconds": 60.0,
        "commit": "c0ffee",
        "dirty": False,
        "measurements": [
            {"metric": metric, "mean": mean, "low": low, "high": high}
            for metric, (mean, low, high) in measurements.items()
        ],
        **more,
    }


def ledger_of(folder: Path, *lines: dict) -> Ledger:
    ledger = Ledger(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for one in lines:
        ledger.append(one)
    return ledger


def failure(names: str, seed: int) -> dict:
    failed = line(names, seed, {}, error="ValueError: no")
    del failed["measurements"]
    return failed


D, OURS, SFT = "discriminator/D/step/linear/bce", "policy/R-AIRL/step/linear/bce", "start/SFT///"
HAND = (
    line(D, 0, {"auroc": (0.80, 0.77, 0.82), "hit@1/token": (0.9, 0.85, 0.95)}),
    line(D, 1, {"auroc": (0.82, 0.79, 0.84)}, commit="decade", dirty=True),
    failure(D, 2),
    line(SFT, 0, {"pass@1/sampled": (0.6, 0.55, 0.65)}),
    line(OURS, 0, {"pass@1/sampled": (0.7, 0.66, 0.74), "collapsed": (0, 0, 0), "seconds": (600, 600, 600)}),
    line(OURS, 1, {"pass@1/sampled": (0.7, 0.66, 0.74), "collapsed": (1, 1, 1), "seconds": (900, 900, 900)}),
)

# AUROC by hand: mean .81; sd = .01·√2, so sd/√2 = .01 and B = 12.706 · .01 = .12706;
# low side √(.03² + .12706²) = .13055, high side √(.02² + .12706²) = .12862.
AUROC = (0.81, 0.81 - 0.13055, 0.81 + 0.12862)


def test_results_by_hand(tmp_path: Path) -> None:
    rows = results(group_runs(ledger_of(tmp_path, *HAND)))
    expected = ["algorithm", "granularity", "head", "loss", "seed", "metric", "mean", "low", "high", "commit"]
    assert all(list(row) == expected for row in rows)
    auroc = [row for row in rows if row["metric"] == "auroc"]
    assert [row["seed"] for row in auroc] == [0, 1, None]
    assert [row["commit"] for row in auroc] == ["c0ffee", "decade-dirty", "c0ffee decade-dirty"]
    assert [auroc[1][end] for end in ("mean", "low", "high")] == [0.82, 0.79, 0.84]
    assert [auroc[2][end] for end in ("mean", "low", "high")] == pytest.approx(AUROC, abs=2e-5)
    only_one = [row for row in rows if row["metric"] == "hit@1/token" and row["seed"] is None]
    assert [[row[end] for end in ("mean", "low", "high")] for row in only_one] == [pytest.approx([0.9, 0.85, 0.95])]
    assert len(rows) == 3 + 2 + 2 + 3 * 3


def test_tables_by_hand(tmp_path: Path) -> None:
    text = render(group_runs(ledger_of(tmp_path, *HAND)))
    tables = [section.splitlines() for section in text.split("\n\n") if section.startswith("|")]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for table in tables for row in table]
    assert all(len({row.count("|") for row in table}) == 1 for table in tables)
    separation, localisation = ([row for row in rows if row[0] == "D"][index] for index in (0, 1))
    assert separation == ["D", "step", "linear", "bce", "2, 1 failed", "81.0 ± 13.1", *["–"] * 8]
    assert localisation == ["D", "step", "linear", "bce", "2, 1 failed", "90.0 ± 5.0", *["–"] * 8]
    policies = {row[0]: row for row in rows if row[0] in ("SFT", "R-AIRL")}
    assert policies["SFT"] == ["SFT", "–", "–", "–", "1", "–", "60.0 ± 5.0", *["–"] * 5]
    expected = ["R-AIRL", "step", "linear", "bce", "2", "–", "70.0 ± 4.0", "–", "1 of 2", "–", "–", "12.5"]
    assert policies["R-AIRL"] == expected
    verdicts = {row[0]: row[1] for row in rows if row[0] in dict(WANTED)}
    assert list(verdicts.values()) == ["met", "not run", "not run", "missed", "not run", "not run", "met"]


@pytest.mark.parametrize("count", range(1, 11))
def test_over_seeds_agrees_with_numpy_and_scipy(count: int) -> None:
    rng = np.random.default_rng(count)
    means = rng.uniform(0.4, 0.6, count)
    below, above = rng.uniform(0.0, 0.1, (2, count))
    found = over_seeds([Figure(*ends) for ends in zip(means, means - below, means + above, strict=True)])
    between = 0.0
    if count > 1:
        between = stats.t.ppf(0.975, count - 1) * stats.sem(means)
    low, high = (np.sqrt(np.mean(side**2) + between**2) for side in (below, above))
    assert (found.mean, found.seeds) == (pytest.approx(means.mean()), count)
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((low, high), rel=1e-5)
    if count > 1:  # the tolerance tells the normal's quantile, and questions that are other ones for each seed
        normal = np.sqrt(np.mean(below**2) + (between * 1.96 / stats.t.ppf(0.975, count - 1)) ** 2)
        independent = np.sqrt(np.mean(below**2) / count + between**2)
        for wrong in (normal, independent):
            assert found.mean - found.low != pytest.approx(wrong, rel=1e-5)


@pytest.mark.parametrize("module", [ablation_groups, ablation_workers])
def test_examples_in_docstrings(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


def test_over_seeds_of_many_is_never_too_narrow() -> None:
    figures = [Figure(mean, mean, mean) for mean in np.linspace(0, 1, 30)]
    exact = stats.t.ppf(0.975, 29) * stats.sem([figure.mean for figure in figures])
    assert exact < over_seeds(figures).half < 1.15 * exact
    for freedom, mine in enumerate(ablation_groups.T_QUANTILES, 1):
        assert 0 <= mine - stats.t.ppf(0.975, freedom) < 1e-5


def test_over_seeds_does_not_depend_on_their_order_and_hides_no_undefined_one() -> None:
    figures = [Figure(0.5, 0.4, 0.7), Figure(0.6, 0.5, 0.65), Figure(0.3, 0.25, 0.4)]
    assert over_seeds(figures) == over_seeds(figures[::-1])
    assert math.isnan(over_seeds([*figures, Figure(math.nan, 0.0, 1.0)]).mean)


def test_an_undefined_figure_is_a_dash_and_null_and_no_best(tmp_path: Path) -> None:
    undefined = line("discriminator/D/dense/linear/bce", 0, {"hit@1/token": (None, 0.0, 0.0)})
    ledger = ledger_of(tmp_path / "out", undefined)
    (tmp_path / "README.md").write_text(PLACE)
    make_table(ledger, tmp_path, write=True)
    rows = json.loads((tmp_path / "results" / "ablation.json").read_text())
    assert [row["mean"] for row in rows] == [None, None]
    readme = (tmp_path / "README.md").read_text()
    assert "nan" not in readme
    assert "| Hit@1 (token) above 86 % on kinds of perturbation not trained on | not run |" in readme


def test_make_table_rewrites_its_part_of_the_readme_only(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / "out", *HAND)
    (tmp_path / "README.md").write_text(PLACE)
    make_table(ledger, tmp_path, write=False)
    assert (tmp_path / "README.md").read_text() == PLACE
    assert not (tmp_path / "results").exists()
    make_table(ledger, tmp_path, write=True)
    once = (tmp_path / "README.md").read_text()
    assert once.startswith(f"# Title\n\nbefore\n{BEGIN}\n") and once.endswith(f"\n{END}\nafter\n")
    assert "old" not in once and "81.0 ± 13.1" in once
    make_table(ledger, tmp_path, write=True)
    assert (tmp_path / "README.md").read_text() == once


@pytest.mark.parametrize("readme", ["", BEGIN, END + BEGIN, BEGIN + END + BEGIN, BEGIN + END + END, END + BEGIN + END])
def test_a_readme_without_one_place_is_refused(readme: str) -> None:
    with pytest.raises(DataError, match="no place"):
        between_marks(readme, "tables")


def test_no_runs_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to make a table of"):
        make_table(Ledger(tmp_path), tmp_path, write=True)


def test_the_readme_of_the_repository_has_the_place(root: Path) -> None:
    readme = (root / "benchmarks" / "README.md").read_text()
    assert "tables" in between_marks(readme, "tables")


def group(stage: str, algorithm: str, failed: int = 0, **figures: Figure | float) -> Group:
    """A figure given as a number has an interval of ± .01; `__` is a slash, `at` an @."""
    named = {}
    for name, figure in figures.items():
        value = figure if isinstance(figure, Figure) else Figure(figure, figure - 0.01, figure + 0.01, 3)
        named[name.replace("__", "/").replace("at", "@")] = value
    return Group(stage, algorithm, "", "", "", named, failed=failed)


def sampled(algorithm: str, mean: float, half: float = 0.01) -> Group:
    return group("policy", algorithm, passat1__sampled=Figure(mean, mean - half, mean + half, 3))


def gain(algorithm: str, mean: float) -> Group:
    return group("policy", algorithm, gain__sampled=mean)


def chosen(reward: float, majority: float, logprob: float) -> Group:
    figures = {"reward": reward, "majority": majority, "logprob": logprob}
    named = {f"best_of_16/{rule}": Figure(mean, mean, mean) for rule, mean in figures.items()}
    return Group("discriminator", "D", "", "", "", named)


ABOVE, _, HALF, COLLAPSED, CHOICE, _, LOCALISES = (text for text, _ in WANTED)
CASES = [
    # Apart; touching; overlapping; the better SFT counts; the best R-AIRL counts; health off is no R-AIRL.
    (ABOVE, [sampled("SFT", 0.60), sampled("R-AIRL", 0.63)], "met"),
    (ABOVE, [sampled("SFT", 0.50), sampled("R-AIRL", 0.75, 0.25)], "missed"),
    (ABOVE, [sampled("SFT", 0.60), sampled("R-AIRL", 0.63, 0.03)], "missed"),
    (ABOVE, [sampled("SFT", 0.60), sampled("SFT continued", 0.63), sampled("R-AIRL", 0.63)], "missed"),
    (ABOVE, [sampled("SFT", 0.60), sampled("R-AIRL", 0.5), sampled("R-AIRL two-head", 0.7)], "met"),
    (ABOVE, [sampled("SFT", 0.60), sampled("R-AIRL", 0.5), sampled("R-AIRL without health", 0.7)], "missed"),
    (ABOVE, [sampled("SFT", 0.60), sampled("GRPO", 0.9)], "not run"),
    (ABOVE, [sampled("R-AIRL", 0.9), sampled("SFTX", 0.1)], "not run"),
    # Half; less; a loss is not half of a greater loss; no GRPO.
    (HALF, [gain("R-AIRL", 0.25), gain("GRPO", 0.5)], "met"),
    (HALF, [gain("R-AIRL", 0.24), gain("GRPO", 0.5)], "missed"),
    (HALF, [gain("R-AIRL", -0.1), gain("GRPO", -0.4)], "missed"),
    (HALF, [gain("R-AIRL", 0.1), gain("GRPO", -0.4)], "met"),
    (HALF, [gain("R-AIRL", 0.5)], "not run"),
    # One of three; with health off it does not count; a run that failed is no sound one; nothing known.
    (COLLAPSED, [group("policy", "R-AIRL", collapsed=Figure(0, 0, 0, 3))], "met"),
    (COLLAPSED, [group("policy", "R-AIRL", collapsed=Figure(1 / 3, 0, 1, 3))], "missed"),
    (COLLAPSED, [group("policy", "GRPO", collapsed=Figure(1, 1, 1))], "missed"),
    (
        COLLAPSED,
        [
            group("policy", "R-AIRL", collapsed=Figure(0, 0, 0, 3)),
            group("policy", "R-AIRL without health", collapsed=Figure(1, 1, 1, 3)),
        ],
        "met",
    ),
    (COLLAPSED, [group("policy", "R-AIRL", 1, collapsed=Figure(0, 0, 0, 2))], "missed"),
    (COLLAPSED, [group("policy", "R-AIRL", 1)], "missed"),
    (COLLAPSED, [sampled("R-AIRL", 0.9), group("discriminator", "D", 1)], "not run"),
    # Above both; only one; the same; the discriminator that chooses best counts.
    (CHOICE, [chosen(0.8, 0.7, 0.75)], "met"),
    (CHOICE, [chosen(0.8, 0.7, 0.85)], "missed"),
    (CHOICE, [chosen(0.8, 0.85, 0.7)], "missed"),
    (CHOICE, [chosen(0.8, 0.8, 0.7)], "missed"),
    (CHOICE, [chosen(0.6, 0.8, 0.7), chosen(0.9, 0.8, 0.7)], "met"),
    (CHOICE, [group("discriminator", "D", best_of_16__reward=0.9)], "not run"),
    # Above; at; the best counts.
    (LOCALISES, [group("discriminator", "D", hitat1__token=0.861)], "met"),
    (LOCALISES, [group("discriminator", "D", hitat1__token=0.86)], "missed"),
    (LOCALISES, [group("discriminator", "D", hitat1__token=0.5), group("x", "D", hitat1__token=0.9)], "met"),
    (LOCALISES, [group("discriminator", "D", hitat1__step=0.99)], "not run"),
]


@pytest.mark.parametrize(("text", "groups", "status"), CASES)
def test_wanted(text: str, groups: list[Group], status: str) -> None:
    verdict = dict(WANTED)[text](groups)
    assert verdict.status == status
    assert bool(verdict.why) is (status != "not run")
    assert dict(WANTED)[text](groups[::-1]).status == status


def test_restored_runs_are_counted_and_not_lost() -> None:
    def run(algorithm: str, collapsed: float, restorations: float, seeds: int, failed: int = 0) -> Group:
        means = {"collapsed": collapsed, "restorations": restorations}
        figures = {name: Figure(mean, mean, mean, seeds) for name, mean in means.items()}
        return Group("policy", algorithm, "", "", "", figures, failed=failed)

    runs = [run("R-AIRL", 0, 4 / 3, 3), run("GRPO", 0, 0.5, 2), run("R-AIRL without health", 1, 9, 1)]
    verdict = dict(WANTED)[COLLAPSED](runs)
    assert (verdict.status, verdict.why) == ("met", "0 of 5 runs lost, 0 failed; 5 restorations")
    runs[1] = run("GRPO", 0.5, 2, 2, failed=1)
    verdict = dict(WANTED)[COLLAPSED](runs)
    assert (verdict.status, verdict.why) == ("missed", "1 of 5 runs lost, 1 failed; 8 restorations")


def test_every_wanted_figure_can_be_met_missed_and_not_run() -> None:
    assert {judge([]).status for _, judge in WANTED} == {"not run"}
    for text in (ABOVE, HALF, COLLAPSED, CHOICE, LOCALISES):
        assert {status for wanted, _, status in CASES if wanted == text} == {"met", "missed", "not run"}
