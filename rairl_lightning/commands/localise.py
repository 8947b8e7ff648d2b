"""``rairl localise``: where a trace first goes wrong, according to a trained reward."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from rairl_lightning.commands.output import OutputFolder
from rairl_lightning.components.base import Granularity
from rairl_lightning.components.step_scores import LastToken, StepScore
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import StepSource
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.text.perturbations import EVERY_KIND, Perturbation
from rairl_lightning.types import Demonstration

T = TypeVar("T")
FILES = (
    "summary.json",
    "corrupted.jsonl",
    "labelled.jsonl",
    *(f"{name}.{kind}" for name in ("hit_at_1", "thresholds", "offsets") for kind in ("png", "csv")),
)


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
        limit: use so many demonstrations, and solutions, only, >= 1, drawn by the seed: files may be sorted.
        seed: of corruptions, bootstrap and what is drawn.
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
    earlier = OutputFolder(out, FILES, overwrite)
    folder = earlier.prepare(data, steps)
    demonstrations = None if data is None else _some(_of_split(data, split), limit, seed)
    solutions = None if steps is None else _some(steps.solutions(), limit, seed)

    from rairl_lightning.evaluation.localisation import output, reports
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
    earlier.clear()
    made_by = {"reward_from": reward, "fingerprint": trained.fingerprint, "reader": repr(trained.reader)}
    summary: dict[str, Any] = {**made_by, "seed": seed, "commit": commit(), "limit": limit}
    if demonstrations is not None:
        kinds = EVERY_KIND if perturbations is None else tuple(perturbations)
        settings: dict[str, int] = {"copies": copies, "every": interval, "seed": seed}
        pairs = reports.report_pairs(trained, demonstrations, kinds, progress=output.shown, **settings)
        summary["perturbed"] = {"data": repr(data), "split": split, **settings, **pairs.figures}
        output.write_pairs(folder, pairs, trained.codec, plots=plots)
    if solutions is not None:
        marked = reports.report_solutions(trained, solutions, step_score, by=by, seed=seed, progress=output.shown)
        summary["natural"] = {"steps": repr(steps), "step_score": repr(step_score), **marked.figures}
        output.write_solutions(folder, marked, plots=plots)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    write_summary(folder / "summary.json", summary)
    print(f"Saved {folder}: seed {seed}, commit {summary['commit']}, {summary['seconds']:.0f} s.")


def _some(items: Sequence[T], limit: int | None, seed: int) -> Sequence[T]:
    """So many of them, in their order."""
    if limit is None or limit >= len(items):
        return items
    return [items[place] for place in sorted(random.Random(seed).sample(range(len(items)), limit))]


def _of_split(data: DemonstrationSource, split: str) -> tuple[Demonstration, ...]:
    demonstrations = getattr(data.splits(), split)
    if not demonstrations:
        raise DataError(f"The {split} split is empty.", expected="demonstrations", got=0, remedy="give another --split")
    return demonstrations
