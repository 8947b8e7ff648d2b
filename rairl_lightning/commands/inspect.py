"""``rairl inspect``: one trace as a trained reward reads it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rairl_lightning.components.base import Granularity
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.data.traces import TraceSource
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional._checks import check_number


def inspect(  # noqa: PLR0913  one argument, one option
    reward: str,
    traces: TraceSource | None = None,
    row: int | None = None,
    id: str | None = None,
    sample: int = 1,
    prompt: str | None = None,
    completion: str | None = None,
    table: bool = False,
    plain: bool = False,
    html: Path | None = None,
    pooling: Pooling | None = None,
    granularity: Granularity | None = None,
    device: str = "auto",
    max_tokens: int = 16384,
    backbone: str | None = None,
    run_config: str | None = None,
    plugins: tuple[str, ...] = (),
) -> None:
    """Show one trace in the terminal, token by token, in the colours of its reward, and its steps below.

    Example:
      rairl inspect --reward runs/quickstart --traces TraceFile --traces.path samples.jsonl --row 3
      rairl inspect --reward runs/quickstart --prompt "2 + 2?" --completion "<think>2 + 2 = 4</think><answer>4</answer>"

    Violet is high, orange low; underlined tokens are where the reward is read; ▼ stands before the token at which it
    falls most. A trace longer than the model's context is read in windows.

    Args:
        reward: a run's folder, its checkpoint (.ckpt), or its exported adapters.
        traces: file of traces and its format; any TraceSource.
        row: which trace of the file, counted from 1; 1 if neither row nor id is given.
        id: in the place of row, the id of a question.
        sample: which of the question's traces, counted from 1; only with id.
        prompt: in the place of a file, the question as the user asks it.
        completion: its trace; the tags <think> and <answer> belong to it.
        table: also print all tokens side by side: id, text, mask (prompt or completion), grid, reward.
        plain: no colour; the rewards are written behind the tokens they are read at.
        html: also write the same as a page to this file, which must not be there yet.
        pooling: from the rewards of a trace to its one reward, in the place of the reward's own.
        granularity: where the reward is read, in the place of the reward's own.
        device: cpu, cuda, cuda:1, …; auto takes an accelerator if there is one.
        max_tokens: padded tokens in the model at once, >= 1; bounds memory, changes no score.
        backbone: folder or hub id of the base model, if it is not where it was in training.
        run_config: config.yaml of the run, for a checkpoint that does not say what its reward is made of.
        plugins: packages of your own whose classes the reward may name; they are imported.
    """
    if html is not None and html.exists():
        raise ConfigError("The page is there already.", got=html, remedy="give another --html")
    trace = _given(prompt, completion) if traces is None else _chosen(traces, row, id, sample)
    from rich.console import Console

    from rairl_lightning.evaluation.inspection import show
    from rairl_lightning.evaluation.long_traces import Windows
    from rairl_lightning.evaluation.scoring import score_traces
    from rairl_lightning.evaluation.trained import TrainedReward

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
    ((score,),) = score_traces(trained, [trace], long=Windows())
    console = Console(color_system=None if plain else "auto", record=html is not None)
    show(score, trained.codec, console, table=table)
    if html is not None:
        console.save_html(str(html))


def _given(prompt: str | None, completion: str | None) -> Any:
    """The trace on the command line; nobody knows whether its answer is right."""
    from rairl_lightning.evaluation.scoring import Trace
    from rairl_lightning.text.answers import extract_answer
    from rairl_lightning.text.graders import Grade
    from rairl_lightning.types import Demonstration

    if prompt is None or completion is None:
        raise ConfigError(
            "There is no trace to show.",
            expected="--traces, or --prompt and --completion",
            remedy="see the examples in rairl inspect --help",
        )
    answer = extract_answer(completion)
    grade = Grade.UNANSWERED if answer is None else Grade.UNKNOWN
    return Trace(Demonstration("command line", prompt, "", ""), completion, answer, grade, {})


def _chosen(source: TraceSource, row: int | None, id: str | None, sample: int) -> Any:
    """The trace of a file by its number, or by its question's id and its number there."""
    from rairl_lightning.evaluation.scoring import traces_of

    if row is not None and id is not None:
        raise ConfigError("Both row and id are given.", expected="one of them", got=f"row {row}, id {id!r}")
    wanted = (sample if id is not None else 1) if row is None else row
    check_number("sample" if id is not None else "row", wanted, at_least=1)
    seen: dict[str, int] = {}
    for number, trace in enumerate(traces_of(source), start=1):
        own = trace.question.id
        seen[own] = seen.get(own, 0) + 1
        if number == wanted if id is None else (own == id and seen[own] == wanted):
            return trace
    if id is None or id in seen:
        count = sum(seen.values()) if id is None else seen[id]
        raise DataError("There are not so many traces.", expected=f"1 to {count}", got=wanted)
    near = get_close_matches(id, seen, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "take an id of the file, or --row"
    raise DataError(f"No question has the id {id!r}.", remedy=remedy)
