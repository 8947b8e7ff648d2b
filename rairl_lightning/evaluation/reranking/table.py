"""A reranking as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from rairl_lightning.evaluation.overlap import warn_of_overlap
from rairl_lightning.evaluation.reranking.report import RerankingReport
from rairl_lightning.evaluation.summary import print_rows
from rairl_lightning.text.visible import visible

WIDTH = 120  # of a file or a pipe, which says nothing of its own


def print_report(report: RerankingReport, console: Console | None = None) -> None:
    """Print the figures: per cent, 95 % bootstrap intervals over questions.

    Args:
        report: what to print.
        console: where to; the terminal by default.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for title, part in (
        ("Right", "right"),
        ("Gain over random", "over_random"),
        ("Gain over majority", "over_majority"),
    ):
        sizes = list(report.best_of)
        rules = list(report.best_of[sizes[0]]["all"][part]) if sizes else []
        rows = {rule: {f"N = {n}": report.best_of[n]["all"][part][rule] for n in sizes} for rule in rules}
        print_rows(console, title, tuple(f"N = {n}" for n in sizes), rows)
    _print_pass_at_k(report, console)
    _print_categories(report, console)
    columns = ("AUROC", "within questions")
    areas = {"reward": dict(zip(columns, (report.auroc["overall"], report.auroc["within_question"]), strict=True))}
    print_rows(console, "Right above wrong", columns, areas)
    errors = {name: {part: report.calibration[part]["ece"] for part in ("before", "after")} for name in ("ECE",)}
    print_rows(console, f"Calibration: {report.calibration['method']}", ("before", "after"), errors)
    odd = "   ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.counts.items() if count)
    console.print(f"pooling {escape(visible(report.pooling['chosen']))}   {odd}", highlight=False)
    warn_of_overlap(report.counts, console)


def _print_pass_at_k(report: RerankingReport, console: Console) -> None:
    asked = report.pass_at_k_questions
    rows = {f"pass@{k} ({asked[k]:,})": {"right": bounds} for k, bounds in report.pass_at_k.items()}
    print_rows(console, "Any of k right (questions)", ("right",), rows)


def _print_categories(report: RerankingReport, console: Console) -> None:
    """At the largest N: reward, majority and random, and the reward's gain over random."""
    if not report.best_of:
        return
    n = list(report.best_of)[-1]
    sections = report.best_of[n]
    if not sections["categories"]:
        return
    columns = ("reward", "majority", "random", "reward - random")
    named = {**sections["categories"], "mean of categories": sections["macro"], "all": sections["all"]}
    rows = {
        escape(visible(f"{name or 'none'} ({section['questions']})")): {
            **{rule: section["right"][rule] for rule in columns[:3]},
            columns[3]: section["over_random"]["reward"],
        }
        for name, section in named.items()
    }
    print_rows(console, f"Best of {n} by category", columns, rows)
