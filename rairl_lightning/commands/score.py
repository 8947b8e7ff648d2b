"""``rairl score``: what a trained reward says of every trace of a file."""

from __future__ import annotations

import time
from itertools import chain, islice
from pathlib import Path

from rairl_lightning.commands.output import OutputFolder
from rairl_lightning.components.base import Granularity
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.traces import TraceSource
from rairl_lightning.evaluation.long_traces import LeftOut, LongTraces
from rairl_lightning.functional._checks import check_number

SCORES, META, SUMMARY = "scores.jsonl", "scores.meta.json", "summary.json"


def score(  # noqa: PLR0913  one argument, one option
    reward: str,
    traces: TraceSource,
    out: Path = Path("runs/score"),
    tokens: bool = False,
    limit: int | None = None,
    long: LongTraces = LeftOut(),
    pooling: Pooling | None = None,
    granularity: Granularity | None = None,
    device: str = "auto",
    max_tokens: int = 16384,
    backbone: str | None = None,
    run_config: str | None = None,
    plugins: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Read every trace of a file with a trained reward, and write what it says of trace, steps and tokens.

    Example:
      rairl score --reward runs/quickstart --traces TraceFile --traces.path samples.jsonl

    Writes OUT/scores.jsonl, one line a trace in the order of the input: the input's fields, and completion (as it was
    scored), reward (of the trace), steps ([{start, end, text, reward}], in characters of the completion),
    extracted_answer, grade, length (tokens) and problems; fields of the input that have one of these names move under
    input. And OUT/summary.json with counts and means. An interrupted file is continued.

    Args:
        reward: a run's folder, its checkpoint (.ckpt), or its exported adapters.
        traces: file of traces and its format; any TraceSource.
        out: folder to write to.
        tokens: also write, for every token, its text, characters, reward and whether the reward was read there.
        limit: score the first so many traces only, >= 1.
        long: traces longer than the model's context: LeftOut, Refuse, or Windows (--long.overlap, in tokens).
        pooling: from the rewards of a trace to its one reward, in the place of the reward's own.
        granularity: where the reward is read, in the place of the reward's own.
        device: cpu, cuda, cuda:1, …; auto takes an accelerator if there is one.
        max_tokens: padded tokens in the model at once, >= 1; bounds memory, changes no score.
        backbone: folder or hub id of the base model, if it is not where it was in training.
        run_config: config.yaml of the run, for a checkpoint that does not say what its reward is made of.
        plugins: packages of your own whose classes the reward may name; they are imported.
        overwrite: start anew in the place of an earlier result in OUT.
    """
    if limit is not None:
        check_number("limit", limit, at_least=1)
    from rich.console import Console

    from rairl_lightning.evaluation.provenance import commit
    from rairl_lightning.evaluation.resumable import ResumableLines
    from rairl_lightning.evaluation.score_file import followed, score_file
    from rairl_lightning.evaluation.scoring import traces_of
    from rairl_lightning.evaluation.summary import write_summary
    from rairl_lightning.evaluation.tally import print_tally
    from rairl_lightning.evaluation.trained import TrainedReward

    output = OutputFolder(out, (SCORES, META, SUMMARY), overwrite)
    folder = output.prepare(traces, continues=(out / META).exists())
    trained = TrainedReward.load(
        reward,
        device=device,
        backbone=backbone,
        pooling=pooling,
        granularity=granularity,
        config=run_config,
        plugins=plugins,
        max_tokens=max_tokens,
    )
    made_by = {"fingerprint": trained.fingerprint, "tokens": tokens, "long": repr(long)}
    read = islice(traces_of(traces), limit)
    first_read = list(islice(read, 1))  # a file that cannot be read leaves the earlier result
    output.clear()
    with ResumableLines(folder / SCORES, made_by) as lines:
        start = time.perf_counter()
        parts = score_file(trained, chain(first_read, read), lines, long=long, tokens=tokens)
        first, figures = followed(parts, limit)
    seconds = time.perf_counter() - start
    origin = {"reward_from": reward, "traces_from": repr(traces), **made_by, "reader": repr(trained.reader)}
    new = figures["traces"] - first["traces"]
    run = {"commit": commit(), "seconds": round(seconds, 2), "traces_in_this_run": new}
    write_summary(folder / SUMMARY, {**origin, **figures, **run})
    console = Console()
    print_tally(figures, console)
    rate = (figures["completion_tokens"] - first["completion_tokens"]) / seconds
    told = f"{folder / SCORES}: {new} new in {seconds:.1f} s, {new / seconds:.1f} traces/s, {rate:.0f} tokens/s"
    console.print(told, highlight=False, markup=False, soft_wrap=True)
