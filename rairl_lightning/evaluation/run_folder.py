"""The files that a run's folder holds for people and for ``rairl report``; plain JSON, one schema each.

``traces.jsonl``
    ``TraceLogger``; a line a sampled trace: ``round, split, id, prompt, completion, finished, reward, correct``.
``token_rewards.jsonl``
    ``TraceLogger``; a line a trace, the policy's and the expert's to the same question: ``round, split, id, source``
    (``policy`` or ``expert``), ``prompt, completion, reward`` (null for a baseline), ``correct`` (null for an expert)
    and ``tokens``.
``reranking.jsonl``
    ``Reranking``; a line an evaluation: ``round, split, questions, best_of`` (by N and rule ``[value, low, high]``)
    and, where a reward is learnt, ``auroc`` and ``reliability`` of ``σ(reward)``
    (:func:`~rairl_lightning.evaluation.calibration.reliability`).
``localisation.jsonl``
    ``Localisation``; a line a perturbed demonstration of the last evaluation: ``round, split, id, kind, prompt, clean,
    completion, changed`` (characters of the completion), ``predicted`` (by method, characters or null), ``hit`` (by
    method and level) and ``tokens``.
``health.json``
    ``Health``; ``outcome, rounds, policy_rate_factor, collapses`` (``round, restored, signs``) and ``warnings``
    (``round, sign, advice``), rewritten whenever one is added.
``leaks.json``, ``summary.json``
    ``LeakProbes`` and ``FinalReport``.
``config.yaml``
    the whole configuration, and above it as comments command, commits, versions and device; runs of earlier versions
    have it under ``logs/version_…`` (:func:`config_of`).
``logs/metrics.csv``
    ``MetricsCSV``; every scalar of TensorBoard's event files beside it, a line a training step.

``earlier/NNN``
    What an earlier run left in the same folder.

``tokens`` are lists of one entry a completion token: ``offsets`` (characters of the completion), ``reward``
(back-filled; null where none is learnt or it is not finite), ``grid`` (1 where the reward is read) and ``logprob`` (of
the policy). They are named as in the lines of ``rairl score --tokens true``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rairl_lightning.evaluation.summary import json_line

CONFIG = "config.yaml"
TRACES, TOKEN_REWARDS = "traces.jsonl", "token_rewards.jsonl"
RERANKING, LOCALISATION = "reranking.jsonl", "localisation.jsonl"
HEALTH, LEAKS, SUMMARY = "health.json", "leaks.json", "summary.json"
LOGS, METRICS = "logs", "metrics.csv"
EARLIER = "earlier"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add JSON lines to a file that grows during a run. Half a surrogate pair is written as its escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json_line(row) + "\n" for row in rows)


def config_of(run: Path) -> Path | None:
    """The configuration as a run wrote it: in its folder, or where its logger put it, the latest start's.

    Lightning writes it into the logger's folder where the logger has one: ``logs``, or ``logs/version_3`` of a logger
    that the user configured.
    """
    logged = sorted(run.glob(f"*/version_*/{CONFIG}"), key=_version)
    return next((file for file in (run / CONFIG, run / LOGS / CONFIG, *reversed(logged)) if file.is_file()), None)


def _version(file: Path) -> int:
    number = file.parent.name.rpartition("_")[2]
    return int(number) if number.isdecimal() else -1


def take_back_rows(path: Path, round_: int) -> None:
    """Remove the selection rows of later rounds, and a line that a killed process did not finish.

    A run that goes on from round ``round_`` writes those rows again.
    """
    if not path.is_file():
        return
    partial = path.with_suffix(".partial")
    with path.open("rb") as old, partial.open("wb") as new:
        new.writelines(line for line in old if line.endswith(b"\n") and not _is_later(line, round_))
    partial.replace(path)


def _is_later(line: bytes, round_: int) -> bool:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError):
        return False  # not ours to judge
    if not isinstance(row, dict) or row.get("split") != "selection":
        return False
    return isinstance(row.get("round"), int) and row["round"] > round_
