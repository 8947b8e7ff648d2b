"""Figures of a run as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rairl_lightning.evaluation.leak_advice import BEFORE, PERTURBED, ROLLOUTS
from rairl_lightning.evaluation.settings import ABSENT
from rairl_lightning.evaluation.summary import per_cent
from rairl_lightning.reporting.events import Curve
from rairl_lightning.reporting.files import Row

COMPARED = {one.key: f"{one.positives.capitalize()} against {one.negatives}" for one in (BEFORE, ROLLOUTS, PERTURBED)}


@dataclass(frozen=True)
class Table:
    """Rows of text under column heads; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def by_name(title: str, first: str, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Intervals, per cent, by row and column.

    >>> by_name("Hit@1", "method", {"reward": {"token": [0.5, 0.4, 0.6]}, "chance": {}}).rows
    [['reward', '50.0 (40.0–60.0)'], ['chance', '–']]
    """
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [[spoken(name), *(_cell(cells.get(column)) for column in columns)] for name, cells in rows.items()]
    return Table(title, [first, *map(spoken, columns)], lines)


def pass_at_1(summary: Row) -> Table:
    """Pass@1 of every policy that ``FinalReport`` compared."""
    return by_name("Pass@1 on the test split", "policy", summary["pass@1"])


def best_of(choices: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Right choices by rule and N; of a summary, or of one evaluation."""
    rules = dict.fromkeys(rule for rows in choices.values() for rule in rows)
    sizes = sorted(choices, key=int)
    rows = {rule: {f"N = {n}": choices[n][rule] for n in sizes if rule in choices[n]} for rule in rules}
    return by_name("Answered right by the chosen trace", "chosen by", rows)


def last_hits(curves: Mapping[str, Curve]) -> Table:
    """The last Hit@1 that was logged, of each method and level."""
    prefix = "selection/localise/"
    cells: dict[str, dict[str, str]] = {}
    for tag, curve in curves.items():
        method = next((name for name in ("reward", "logprob_drop", "chance") if tag.startswith(f"{prefix}{name}_")), "")
        if method:
            level = tag.removeprefix(f"{prefix}{method}_")
            cells.setdefault(method, {})[level] = f"{100 * curve[-1][1]:.1f}"
    columns = list(dict.fromkeys(level for own in cells.values() for level in own))
    rows = [[spoken(method), *(own.get(level, ABSENT) for level in columns)] for method, own in cells.items()]
    return Table("Hit@1 and MRR at the last evaluation, selection split", ["method", *map(spoken, columns)], rows)


def extremes(curves: Mapping[str, Curve]) -> Table:
    """First, last, lowest and highest value of every curve: the charts in words."""
    rows = [
        [tag, *(f"{value:.4g}" for value in (own[0], own[-1], min(own), max(own)))]
        for tag, curve in curves.items()
        if (own := [value for _, value in curve])
    ]
    return Table("Every curve in numbers", ["curve", "first", "last", "lowest", "highest"], rows)


def leak_tables(leaks: Row) -> list[Table]:
    """The last measurement of each comparison: its strongest features, those above the threshold marked."""
    last: dict[str, Row] = {one["comparison"]: one for one in leaks["measurements"]}
    return [_leaks(one) for one in last.values()]


def spoken(name: str) -> str:
    """A key as a person would write it.

    >>> spoken("logprob_drop"), spoken("sft_continued")
    ('log-probability drop', 'SFT continued')
    """
    words = {"logprob": "log-probability", "sft": "SFT", "rairl": "R-AIRL", "grpo": "GRPO", "mrr": "MRR", "map": "MAP"}
    return " ".join(words.get(word, word) for word in name.split("_"))


def _leaks(one: Row) -> Table:
    found = set(one.get("leaks", ()))
    rows = [
        [("⚠ leak: " if each["feature"] in found else "") + str(each["feature"]), f"{each['auroc']:.2f}",
         f"{each['low']:.2f}", f"{each['positives']:.3g}", f"{each['negatives']:.3g}"]
        for each in one["features"][:5]
    ]  # fmt: skip
    who = COMPARED.get(str(one["comparison"]), str(one["comparison"]))
    when = "before training" if one["comparison"] == BEFORE.key else f"after {one['after_rounds']} rounds"
    return Table(f"{who}, {when}", ["feature alone", "AUROC", "at least", "positives", "negatives"], rows)


def _cell(bounds: Any) -> str:
    return ABSENT if bounds is None else per_cent(bounds)
