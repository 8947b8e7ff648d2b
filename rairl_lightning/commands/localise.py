"""``rairl localise``: where a trace first goes wrong, according to a trained reward."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rairl_lightning.commands.output import output_folder
from rairl_lightning.components.base import Granularity
from rairl_lightning.components.step_scores import LastToken, StepScore
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import StepSource
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.text.perturbations import EVERY_KIND, Perturbation
from rairl_lightning.types import Demonstration

if TYPE_CHECKING:
    from rairl_lightning.evaluation.localisation.reports import PairsReport, SolutionsReport
    from rairl_lightning.evaluation.trained import TrainedReward

T = TypeVar("T")

SUMMARY, CORRUPTED, LABELLED = "summary.json", "corrupted.jsonl", "labelled.jsonl"
PLOTS = ("hit_at_1", "thresholds", "offsets")


def localise(  # noqa: PLR0913  one argument, one option
    reward: str,
    data: DemonstrationSource | None = None,
    steps: StepSource | None = None,
    out: Path = Path("runs/localise"),
    split: Literal["train", "selection", "test"] = "test",
    perturbations: list[Perturbation] | None = None,
    copies: int = 1,
    interval: int = 15,
    step_score: StepScore = LastToken(),
    by: tuple[str, ...] = ("source", "subset"),
    limit: int | None = None,
    seed: int = 0,
    granularity: Granularity | None = None,
    device: str = "auto",
    max_tokens: int = 16384,
    backbone: str | None = None,
    run_config: str | None = None,
    plugins: tuple[str, ...] = (),
    plots: bool = True,
    overwrite: bool = False,
) -> None:
    """Find where traces first go wrong, and measure how often a trained reward is right about it.

    Examples:
      rairl localise --reward runs/gsm8k --data GSM8K --data.path gsm8k
      rairl localise --reward runs/gsm8k --steps ProcessSteps --steps.path processbench_gsm8k.jsonl

    --data corrupts demonstrations at a known place and looks for the largest drop of the reward (Hit@1, MRR, MAP);
    --steps takes solutions whose first wrong step is marked and predicts the first step below a threshold that was
    fitted on the other half of the questions (ProcessBench's F1). Beside the reward: log-probability and entropy of the
    run's policy, and chance. Writes OUT/summary.json, one JSON line a trace (corrupted.jsonl, labelled.jsonl) and plots
    with their data (.png, .csv).

    Args:
        reward: a run's folder, its checkpoint (.ckpt), or its exported adapters.
        data: demonstrations to corrupt; any DemonstrationSource.
        steps: solutions with a marked first wrong step; any StepSource.
        out: folder to write to.
        split: of the demonstrations.
        perturbations: kinds of corruption to draw from; every kind by default.
        copies: corruptions of each demonstration, >= 1.
        interval: tokens of an interval (the paper's: 15), >= 1.
        step_score: of a given step, from its tokens' rewards: LastToken, StepMean, StepMinimum or StepDrop.
        by: fields of the solutions by which results are also given apart, such as subset or generator.
        limit: use the first so many demonstrations, and solutions, only, >= 1.
        seed: of corruptions and bootstrap.
        granularity: where the reward is read, in the place of the reward's own.
        device: cpu, cuda, cuda:1, …; auto takes an accelerator if there is one.
        max_tokens: padded tokens in the model at once, >= 1; bounds memory, changes no score.
        backbone: folder or hub id of the base model, if it is not where it was in training.
        run_config: config.yaml of the run, for a checkpoint that does not say what its reward is made of.
        plugins: packages of your own whose classes the reward may name; they are imported.
        plots: draw pictures.
        overwrite: replace an earlier result in OUT.

    Raises:
        ConfigError: there is neither data nor steps, or a number is out of range.
    """
    if data is None and steps is None:
        raise ConfigError("There is nothing to localise.", expected="--data or --steps, or both", remedy="see --help")
    for name, value in (("copies", copies), ("interval", interval), ("limit", 1 if limit is None else limit)):
        check_number(name, value, at_least=1)
    drawn = [f"{name}.{kind}" for name in PLOTS for kind in ("png", "csv")]
    folder = output_folder(out, [SUMMARY, CORRUPTED, LABELLED, *drawn], overwrite=overwrite)
    demonstrations = None if data is None else _of_split(data, split)[:limit]
    solutions = None if steps is None else steps.solutions()[:limit]

    from rairl_lightning.evaluation.localisation import reports
    from rairl_lightning.evaluation.provenance import commit
    from rairl_lightning.evaluation.summary import write_summary
    from rairl_lightning.evaluation.trained import TrainedReward

    start = time.perf_counter()
    trained = TrainedReward.load(
        reward,
        device=device,
        backbone=backbone,
        granularity=granularity,
        config=run_config,
        plugins=plugins,
        max_tokens=max_tokens,
    )
    made_by = {"reward_from": reward, "fingerprint": trained.fingerprint, "reader": repr(trained.reader)}
    summary: dict[str, Any] = {**made_by, "seed": seed, "commit": commit(), "limit": limit}
    if demonstrations is not None:
        kinds = EVERY_KIND if perturbations is None else tuple(perturbations)
        settings: dict[str, int] = {"copies": copies, "every": interval, "seed": seed}
        pairs = reports.report_pairs(trained, demonstrations, kinds, progress=_progress, **settings)
        summary["perturbed"] = {"data": repr(data), "split": split, **settings, **pairs.figures}
        _write_pairs(folder, pairs, trained, plots=plots)
    if solutions is not None:
        marked = reports.report_solutions(trained, solutions, step_score, by=by, seed=seed, progress=_progress)
        summary["natural"] = {"steps": repr(steps), "step_score": repr(step_score), **marked.figures}
        _write_solutions(folder, marked, plots=plots)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    write_summary(folder / SUMMARY, summary)
    print(f"Saved {folder}: seed {seed}, commit {summary['commit']}, {summary['seconds']:.0f} s.")


def _of_split(data: DemonstrationSource, split: str) -> tuple[Demonstration, ...]:
    demonstrations = getattr(data.splits(), split)
    if not demonstrations:
        raise DataError(f"The {split} split is empty.", expected="demonstrations", got=0, remedy="give another --split")
    return demonstrations


def _write_pairs(folder: Path, report: PairsReport, trained: TrainedReward, *, plots: bool) -> None:
    from rich.console import Console

    from rairl_lightning.evaluation.localisation.plots import draw_hits, hit_rows
    from rairl_lightning.evaluation.localisation.rows import pair_rows
    from rairl_lightning.evaluation.localisation.table import print_pairs
    from rairl_lightning.evaluation.plots import write_plot
    from rairl_lightning.evaluation.summary import write_rows

    write_rows(folder / CORRUPTED, pair_rows(report.pairs, report.demonstrations, trained.codec))
    print_pairs(report.figures, Console())
    if plots:
        write_plot(folder, "hit_at_1", list(hit_rows(report.figures)), draw_hits)


def _write_solutions(folder: Path, report: SolutionsReport, *, plots: bool) -> None:
    from rich.console import Console

    from rairl_lightning.evaluation.localisation.plots import draw_offsets, draw_thresholds, offset_rows, threshold_rows
    from rairl_lightning.evaluation.localisation.rows import solution_rows
    from rairl_lightning.evaluation.localisation.table import print_solutions
    from rairl_lightning.evaluation.plots import write_plot
    from rairl_lightning.evaluation.summary import write_rows

    predicted, thresholds = report.predicted["reward"], report.thresholds["reward"]
    write_rows(folder / LABELLED, solution_rows(report.traces, report.scored, predicted, thresholds))
    print_solutions(report.figures, Console())
    if plots:
        write_plot(folder, "thresholds", threshold_rows(report.scored), draw_thresholds)
        write_plot(folder, "offsets", offset_rows(report.scored, predicted), draw_offsets)


def _progress(batches: Iterable[T]) -> Iterable[T]:
    from rich.progress import track

    return track(batches, description="reading traces", transient=True)
