"""What the page says, from the files of a run and of the commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rairl_lightning.evaluation import run_folder
from rairl_lightning.evaluation.settings import Difference, differences
from rairl_lightning.reporting import tables
from rairl_lightning.reporting.charts import Chart, Series, chart
from rairl_lightning.reporting.curves import curve_charts
from rairl_lightning.reporting.events import Curve, phases_of, read_curves
from rairl_lightning.reporting.files import Notes, Row, read_mapping, read_rows
from rairl_lightning.reporting.tables import Table, spoken

RULES = ("reward", "weighted", "majority", "logprob", "shortest", "random", "oracle")


@dataclass(frozen=True)
class Sources:
    """Folders that a page is made of; all but the run's may be missing."""

    run: Path
    against: Path | None = None
    rerank: Path | None = None
    localise: Path | None = None
    scores: Path | None = None


@dataclass
class Figures:
    """The parts of a page that are numbers; what is None or empty is not shown.

    Attributes:
        summary: of ``FinalReport``.
        results: tables of it.
        main: charts of the curves that matter most.
        more: the other charts.
        numbers: the curves as a table.
        health: outcome, rounds, factor of the policy's learning rate, and findings, a line each.
        leaks: tables of ``LeakProbes``.
        reranking: chart and table.
        reranking_from: where they come from.
        reliability: chart.
        reliability_from: likewise.
        localisation: tables.
        config: as YAML text.
        differences: from the other run's configuration; None without one.
        reward: what ``adapters/reward.json`` says of the reward.
    """

    summary: Row = field(default_factory=dict)
    results: list[Table] = field(default_factory=list)
    main: list[Chart] = field(default_factory=list)
    more: list[Chart] = field(default_factory=list)
    numbers: Table | None = None
    health: Row = field(default_factory=dict)
    leaks: list[Table] = field(default_factory=list)
    reranking: tuple[Chart, Table] | None = None
    reranking_from: str = ""
    reliability: Chart | None = None
    reliability_from: str = ""
    localisation: list[Table] = field(default_factory=list)
    config: str = ""
    differences: list[Difference] | None = None
    reward: Row = field(default_factory=dict)


def figures_of(sources: Sources, notes: Notes) -> Figures:
    """Read everything but the traces."""
    run, out = sources.run, Figures()
    curves = read_curves(run, notes)
    other = read_curves(sources.against, notes) if sources.against else {}
    out.summary = read_mapping(run / run_folder.SUMMARY, notes)
    if out.summary:
        out.results = notes.attempt("the results of the test split", lambda: _results(out.summary)) or []
    if curves:
        drawn = notes.attempt("the curves", lambda: curve_charts(curves, phases_of(curves), other))
        out.main, out.more = drawn or ([], [])
        out.numbers = tables.extremes(curves)
    health = read_mapping(run / run_folder.HEALTH, notes)
    if health:
        out.health = notes.attempt("the verdict of Health", lambda: _health(health)) or {}
    leaks = read_mapping(run / run_folder.LEAKS, notes)
    if leaks:
        out.leaks = notes.attempt("the leak probes", lambda: tables.leak_tables(leaks)) or []
    _evaluations(out, sources, curves, notes)
    out.reward = read_mapping(run / "adapters" / "reward.json", notes)
    _settings(out, sources, notes)
    return out


def _health(health: Row) -> Row:
    collapses = [
        f"Collapse in round {one['round']}, back to round {one['restored']}: {one['signs']}"
        for one in health["collapses"]
    ]
    warned = [f"Round {one['round']}: {one['sign']}. Try: {one['advice']}." for one in health["warnings"]]
    known = {"outcome": health["outcome"], "rounds": health["rounds"], "factor": health["policy_rate_factor"]}
    return {**known, "lines": [*collapses, *warned]}


def _results(summary: Row) -> list[Table]:
    found = [tables.pass_at_1(summary)]
    for name in summary:
        if name.startswith("best_of_"):
            rows = {rule: {"right": bounds} for rule, bounds in summary[name].items()}
            found.append(tables.by_name(f"Best of {name.removeprefix('best_of_')} SFT samples", "chosen by", rows))
    return [*found, tables.by_name("Hit@1 on corrupted demonstrations", "method", summary["hit@1"])]


def _evaluations(out: Figures, sources: Sources, curves: Mapping[str, Curve], notes: Notes) -> None:
    *_, last = [{}, *read_rows(sources.run / run_folder.RERANKING, notes)]
    reranked = read_mapping(sources.rerank / "summary.json", notes) if sources.rerank else {}
    where = f"rairl rerank, in the folder {sources.rerank.name}" if sources.rerank and reranked else ""
    during = f"the {last.get('split')} split in round {last.get('round')}, {last.get('questions')} questions"
    if reranked or last:
        out.reranking_from = where or during
        out.reranking = notes.attempt("reranking", lambda: _reranking(_choices(reranked) or last["best_of"]))
        out.reliability_from = where or during
        out.reliability = notes.attempt("reliability", lambda: _reliability(reranked, last))
    located = read_mapping(sources.localise / "summary.json", notes) if sources.localise else {}
    if located:
        out.localisation = notes.attempt("localisation", lambda: list(_localised(located))) or []
    elif any(tag.startswith("selection/localise/") for tag in curves):
        out.localisation = [tables.last_hits(curves)]


def _choices(reranked: Row) -> dict[str, Any]:
    return {n: sections["all"]["right"] for n, sections in reranked.get("best_of", {}).items()}


def _reranking(choices: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[Chart, Table]:
    sizes = sorted(choices, key=int)
    series = []
    for style, rule in enumerate(RULES):
        rows = [(int(n), choices[n][rule]) for n in sizes if rule in choices[n]]
        points = [(float(n), 100 * right) for n, (right, _, _) in rows]
        bounds = [(100 * low, 100 * high) for _, (_, low, high) in rows] if rule == "reward" else []
        series.append(Series(spoken(rule), points, style, bounds=bounds, markers=True))
    drawn = chart("Answered right by the chosen trace, %", series, "traces to choose from (N)", log2=True)
    return drawn, tables.best_of(choices)


def _reliability(reranked: Row, last: Row) -> Chart | None:
    curves = {when: reranked["calibration"][when]["curve"] for when in ("before", "after")} if reranked else {}
    if not curves and "reliability" in last:
        curves = {"σ(reward)": last["reliability"]["curve"]}
    series = [
        Series(
            f"{when} calibration" if reranked else when,
            [(one["probability"], one["right"][0]) for one in curve],
            style,
            bounds=[(one["right"][1], one["right"][2]) for one in curve],
            markers=True,
            joined=False,
        )
        for style, (when, curve) in enumerate(curves.items())
        if curve
    ]
    if not series:
        return None
    title = "Share that is right, over the probability"
    return chart(title, series, "probability of being right", y_range=(0.0, 1.0), diagonal=True)


def _localised(summary: Row) -> Iterator[Table]:
    if "perturbed" in summary:
        hits = summary["perturbed"].get("all", summary["perturbed"])["hit@1"]
        yield tables.by_name("Hit@1 on corrupted demonstrations", "method", hits)
    if "natural" in summary:
        natural = summary["natural"].get("all", summary["natural"])
        rows = {method: {"F1": bounds} for method, bounds in natural["f1"].items()}
        yield tables.by_name("First wrong step of marked solutions", "method", rows)


def _settings(out: Figures, sources: Sources, notes: Notes) -> None:
    own = _config(sources.run, notes)
    if own:
        out.config = yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=100)
    other = _config(sources.against, notes) if sources.against else {}
    if own and other:
        out.differences = notes.attempt("the difference of the configurations", lambda: differences(own, other))
    elif sources.against:
        notes.add("The configurations are not compared: one of the runs has no readable config.yaml.")


def _config(run: Path, notes: Notes) -> Row:
    file = run_folder.config_of(run)
    return {} if file is None else read_mapping(file, notes)
