"""A command as the tests of the frame need one: short names, a nested class, a list, a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rairl_lightning.components import Granularity, Interval, Pooling, TokenWeighted
from rairl_lightning.data.traces import TraceSource

CALLS: list[dict[str, Any]] = []


def read_traces(
    reward: str,
    traces: TraceSource | None = None,
    pooling: Pooling = TokenWeighted(),
    granularity: Granularity | None = Interval(5),
    out: Path = Path("runs/read"),
    limit: int | None = None,
    plugins: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Read traces.

    Example:
      rairl read_traces --reward runs/quickstart
        --limit 3

    Args:
        reward: a run's folder.
        traces: questions with traces.
        pooling: from rewards to one number.
        granularity: where the reward is read.
        out: folder to write to.
        limit: traces to read, >= 1.
        plugins: packages whose classes may be built.
        overwrite: replace what is in ``out``.
    """
    CALLS.append(dict(locals()))
