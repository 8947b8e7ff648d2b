"""From trace files to a folder of results, with progress bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import TraceSource
from rairl_lightning.evaluation.calibration import Fitted
from rairl_lightning.evaluation.long_traces import LongTraces
from rairl_lightning.evaluation.reranking.partition import Partition
from rairl_lightning.evaluation.reranking.plan import Sampling
from rairl_lightning.evaluation.reranking.plots import write_plots
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.evaluation.reranking.report import RerankingReport
from rairl_lightning.evaluation.reranking.rows import reranked_rows
from rairl_lightning.evaluation.reranking.sampled import sample_to_file, sampled_file
from rairl_lightning.evaluation.reranking.scoring import score_questions
from rairl_lightning.evaluation.summary import write_rows, write_summary
from rairl_lightning.evaluation.trained import TrainedReward

SUMMARY, RERANKED, TRACES, SELECTION = "summary.json", "reranked.jsonl", "traces.jsonl", "selection.jsonl"


def sampled_sources(
    reward: TrainedReward, data: DemonstrationSource, how: Sampling, folder: Path, seed: int, *, fits: bool
) -> tuple[TraceSource, TraceSource | None]:
    """Answer the questions to report on and, where something is fitted, those to fit on, and write both.

    Args:
        reward: whose policy answers.
        data: the questions.
        how: which of them, and how.
        folder: to write ``traces.jsonl`` and ``selection.jsonl`` to.
        seed: of the samples.
        fits: whether anything is fitted or chosen.
    """
    splits = data.splits()
    asked = {TRACES: how.reported(splits), **({SELECTION: how.fitted_on(splits)} if fits else {})}
    for name, questions in asked.items():
        answered = sample_to_file(folder / name, reward, questions, how, seed)
        for _ in track(answered, f"sampling {name}", total=-(-len(questions) // how.questions_at_once), transient=True):
            pass
    sources = [sampled_file(folder / name, data, questions) for name, questions in asked.items()]
    return sources[0], sources[1] if fits else None


def scored_questions(
    reward: TrainedReward, traces: TraceSource, poolings: Sequence[Pooling], long: LongTraces
) -> list[ScoredQuestion]:
    """Read, grade and score all questions of a source."""
    questions = list(track(traces.questions(), "reading and grading", total=None, transient=True))
    scored = score_questions(reward, questions, poolings, long)
    return list(track(scored, "scoring", total=len(questions), transient=True))


def write_results(
    folder: Path, partition: Partition, report: RerankingReport, fitted: Fitted, origin: dict[str, Any]
) -> None:
    """Write summary, reranked traces and plots.

    Args:
        folder: exists.
        partition: what was scored.
        report: its figures.
        fitted: the calibration.
        origin: where all that came from, for the summary.
    """
    write_summary(folder / SUMMARY, {**origin, **report.figures()})  # first: the figures took longest
    uses = (("reported", partition.reported), ("selection", partition.selection))
    pooling = report.pooling["chosen"]
    rows = (row for use, questions in uses for one in questions for row in reranked_rows(one, pooling, fitted, use))
    write_rows(folder / RERANKED, rows)
    write_plots(folder, report)
