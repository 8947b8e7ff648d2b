"""``rairl rerank``: what a trained reward is worth as a judge of N traces a question."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rairl_lightning.commands.output import OutputFolder
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import TraceSource
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.calibration import Calibration, Temperature
from rairl_lightning.evaluation.long_traces import LeftOut, LongTraces
from rairl_lightning.evaluation.reranking.plan import Sampling
from rairl_lightning.functional._checks import check_number

FILES = (
    "summary.json",
    "reranked.jsonl",
    *(f"{name}.{kind}" for name in ("accuracy", "reliability", "rewards") for kind in ("png", "csv")),
)
SAMPLED = ("traces.jsonl", "selection.jsonl")


def rerank(  # noqa: PLR0913  one argument, one option
    reward: str,
    traces: TraceSource | None = None,
    data: DemonstrationSource | None = None,
    sampling: Sampling = Sampling(),
    policy: str | None = None,
    selection: TraceSource | None = None,
    selection_fraction: float = 0.2,
    calibration: Calibration = Temperature(),
    poolings: list[Pooling] | None = None,
    sizes: tuple[int, ...] = (2, 4, 8, 16),
    long: LongTraces = LeftOut(),
    seed: int = 0,
    out: Path = Path("runs/rerank"),
    device: str = "auto",
    max_tokens: int = 16384,
    backbone: str | None = None,
    run_config: str | None = None,
    plugins: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Choose among N traces of a question by the reward, and compare with every other way to choose.

    Example:
      rairl rerank --reward runs/quickstart --traces TraceFile --traces.path samples.jsonl
      rairl rerank --reward runs/quickstart --data Arithmetic --sampling.limit 64 --sampling.max_new_tokens 160

    Rules: Best-of-N by reward, vote weighted by the reward, majority, highest mean log-probability, shortest, a random
    choice and the oracle (pass@N), at every N of SIZES that there are traces for, in expectation over all subsets of N.
    Calibration and pooling are fitted and chosen on selection questions, which no figure is of.

    Writes OUT/summary.json (figures with 95 % bootstrap intervals over questions, by category too, and counts of all
    that was odd), OUT/reranked.jsonl (every trace with reward, rank, probability and the rules that choose it), and
    accuracy, reliability and rewards as .png and .csv. With DATA also the traces that were sampled.

    Args:
        reward: a run's folder, its checkpoint (.ckpt), or its exported adapters.
        traces: file of traces and its format; any TraceSource.
        data: instead of TRACES, a data set whose questions the reward's policy answers; any DemonstrationSource.
        sampling: with DATA, which split and how: split, fit_split, samples, temperature, max_new_tokens, limit.
        policy: folder of exported adapters, or the run they lie in, of the same base model: who answers, and whose
            log-probabilities are compared, instead of the reward's own policy.
        selection: with TRACES, a file of other traces to fit and choose on; refused where nothing is fitted or chosen.
        selection_fraction: with TRACES and without SELECTION, share of the questions held out to fit and choose on, by
            a hash of the question, in [0, 1).
        calibration: from reward to probability of being right: Temperature, Isotonic, or NoCalibration, for which no
            question is held out.
        poolings: from the rewards of a trace to its one reward; of several the one with the highest AUROC within
            selection questions is taken; null is the reward's own.
        sizes: the N to choose among.
        long: traces longer than the model's context: LeftOut, Refuse, or Windows (--long.overlap, in tokens).
        seed: of samples, subsets and resamples.
        out: folder to write to.
        device: cpu, cuda, cuda:1, …; auto takes an accelerator if there is one.
        max_tokens: padded tokens in the model at once, >= 1; bounds memory, changes no score.
        backbone: folder or hub id of the base model, if it is not where it was in training.
        run_config: config.yaml of the run, for a checkpoint that does not say what its reward is made of.
        plugins: packages of your own whose classes the reward may name; they are imported.
        overwrite: replace an earlier result in OUT.
    """
    fits = calibration.needs_data or len(poolings or ()) > 1
    _check(traces, data, selection, sizes, fits=fits)
    if data is not None and min(sizes) > sampling.samples:
        raise ConfigError(
            "There are fewer samples than the smallest N to choose among.",
            expected=f"--sampling.samples >= {min(sizes)}, or a smaller --sizes",
            got=f"samples {sampling.samples}, sizes {', '.join(map(str, sizes))}",
        )
    from rairl_lightning.evaluation.provenance import commit
    from rairl_lightning.evaluation.reranking import run
    from rairl_lightning.evaluation.reranking.partition import Partition
    from rairl_lightning.evaluation.reranking.report import report_of
    from rairl_lightning.evaluation.reranking.sampled import load_policy
    from rairl_lightning.evaluation.reranking.scoring import pooling_name
    from rairl_lightning.evaluation.reranking.table import print_report
    from rairl_lightning.evaluation.trained import TrainedReward

    start = time.perf_counter()
    output = OutputFolder(out, (*FILES, *(SAMPLED if data is not None else ())), overwrite)
    folder = output.prepare(traces, data, selection)
    trained = TrainedReward.load(
        reward, device=device, backbone=backbone, config=run_config, plugins=plugins, max_tokens=max_tokens
    )
    if policy is not None:
        load_policy(trained.models, policy)
    pools = poolings or [trained.reader.pooling]
    if data is not None:
        traces, selection = run.sampled_sources(trained, data, sampling, folder, seed, fits=fits)
    reported = run.scored_questions(trained, cast(TraceSource, traces), pools, long)
    if selection is not None:
        partition = Partition(tuple(reported), tuple(run.scored_questions(trained, selection, pools, long)))
    else:
        partition = Partition.by_hash(reported, selection_fraction if fits else 0)
    names = [pooling_name(one) for one in pools]
    report, fitted = report_of(partition, names, calibration, sizes, seed, trained.trained_on)
    origin = {
        "reward_from": reward,
        "fingerprint": trained.fingerprint,
        "reader": repr(trained.reader),
        "policy_from": policy or reward,
        "traces_from": repr(traces),
        "selection_from": repr(selection)
        if selection is not None
        else f"held out: {selection_fraction if fits else 0}",
        **({"data": repr(data), "sampling": repr(sampling)} if data is not None else {}),
        "long": repr(long),
        "seed": seed,
        "commit": commit(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    output.clear(keep=() if data is None else SAMPLED if fits else SAMPLED[:1])
    run.write_results(folder, partition, report, fitted, origin)
    print_report(report)
    if not report.best_of:
        told = f"No question has as many graded traces as any of the sizes {', '.join(map(str, sizes))}"
        print(f"{told}: nothing was chosen among; give smaller --sizes.")
    print(f"Saved {folder}.")


def _check(
    traces: TraceSource | None,
    data: DemonstrationSource | None,
    selection: TraceSource | None,
    sizes: Sequence[int],
    *,
    fits: bool,
) -> None:
    if (traces is None) == (data is None):
        raise ConfigError(
            "There have to be traces to rerank, from a file or from a policy.",
            expected="either --traces or --data",
            got="neither" if traces is None else "both",
            remedy="--traces TraceFile --traces.path samples.jsonl, or --data GSM8K --data.path FOLDER",
        )
    if data is not None and selection is not None:
        raise ConfigError(
            "With --data the questions to fit on are those of sampling.fit_split.",
            expected="--data without --selection",
            got="both",
        )
    if not sizes:
        raise ConfigError("There is no N to choose among.", expected="--sizes [2,4]", got="an empty list")
    if selection is not None and not fits:
        raise ConfigError(
            "There is nothing to fit or choose on the traces of --selection.",
            expected="a calibration that is fitted, or several poolings",
            got="NoCalibration and one pooling",
            remedy="leave --selection out; or take --calibration Temperature, or two or more --poolings",
        )
    for n in sizes:
        check_number("sizes", n, at_least=1)
