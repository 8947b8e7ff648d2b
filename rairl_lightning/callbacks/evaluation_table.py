"""What an evaluation found, as one small table in a terminal and one line elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import rich
from lightning import Trainer
from rich.console import Console

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.health import Level
from rairl_lightning.callbacks.onlooker import Found, Onlooker
from rairl_lightning.callbacks.reranking import Reranking
from rairl_lightning.evaluation.summary import new_table

LEVEL, RESTORATIONS = "health/level", "health/restorations"


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    Attributes:
        label: with ``{n}`` for the traces to choose from.
        metric: its name, without the split.
        against: what the baseline is called; empty for none.
        baseline: its metric, or its value.
        share: whether it is written in per cent.
        brief: whether it stands in the one line.
    """

    label: str
    metric: str
    against: str = ""
    baseline: str | float = math.nan
    share: bool = True
    brief: bool = False

    def written(self, value: float, sign: str = "") -> str:
        """A value, or with the sign ``+`` a difference.

        >>> Measure("a", "b").written(0.612), Measure("a", "b", share=False).written(-0.00001, "+")
        ('61.2', '+0.000')
        """
        digits = 1 if self.share else 3
        return f"{round(100 * value if self.share else value, digits) + 0.0:{sign}.{digits}f}"


MEASURES = (
    Measure("pass@1, greedy, %", "pass@1"),
    Measure("pass@1, sampled, %", "rerank/random", brief=True),
    Measure("best of {n}, reward, %", "rerank/reward", "random", "rerank/random", brief=True),
    Measure("best of {n}, weighted vote, %", "rerank/weighted", "majority", "rerank/majority"),
    Measure("best of {n}, majority, %", "rerank/majority", "random", "rerank/random"),
    Measure("AUROC of the reward", "rerank/auroc", "chance", 0.5, share=False, brief=True),
    Measure("Hit@1, token, %", "localise/reward_token", "log-probability", "localise/logprob_drop_token"),
    Measure("Hit@1, interval, %", "localise/reward_interval", "log-probability", "localise/logprob_drop_interval"),
    Measure("Hit@1, step, %", "localise/reward_step", "log-probability", "localise/logprob_drop_step", brief=True),
    Measure("discriminator's AUROC", "discriminator/heldout_auroc", "chance", 0.5, share=False),
)


class EvaluationTable(Onlooker):
    """Prints reranking, localisation and health at each evaluation: value, baseline, and change since it last did.

    In a terminal a table, above the bar of ``RoundProgress``; elsewhere one line. Without this callback it is quiet.
    """

    def __init__(self) -> None:
        self._console: Console = rich.get_console()
        self._before: dict[str, float] = {}

    def look(self, trainer: Trainer, module: RoundsModule, found: Found) -> None:
        """Print, in the first process."""
        measured = {name: value for one in found.values() for name, value in one.metrics.items()}
        if not measured or not trainer.is_global_zero:
            return
        logged = {name.removeprefix("selection/"): float(value) for name, value in trainer.callback_metrics.items()}
        others = {name: value for name, value in logged.items() if not name.startswith(("rerank/", "localise/"))}
        values = {name: value for name, value in {**others, **measured}.items() if math.isfinite(value)}
        choices = found[Reranking].rows[0]["best_of"] if Reranking in found else {}
        samples = max(map(int, choices), default=1)
        title = f"selection, round {module.clock.round} of {module.rounds}" if module.rounds else "selection"
        (self._table if self._console.is_terminal else self._line)(title, values, samples)
        names = {measure.metric for measure in MEASURES} & values.keys()
        self._before |= {name: values[name] for name in names}

    def state_dict(self) -> dict[str, Any]:
        """What the next evaluation is compared with."""
        return {"before": dict(self._before)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._before = dict(state_dict["before"])

    def _table(self, title: str, values: Mapping[str, float], samples: int) -> None:
        table = new_table(title, ("value", "baseline", "ahead by", "change"))
        for measure in MEASURES:
            if measure.metric in values:
                value, baseline = values[measure.metric], _baseline(measure, values)
                told = ["", ""]
                if baseline is not None:
                    told = [f"{measure.written(baseline)} {measure.against}", measure.written(value - baseline, "+")]
                label, change = measure.label.format(n=samples), self._change(measure, value)
                table.add_row(label, measure.written(value), *told, change)
        if LEVEL in values:
            table.add_row("health", *_health(values))
        self._console.print(table)

    def _line(self, title: str, values: Mapping[str, float], samples: int) -> None:
        self._console.print(
            f"{title}: {'  '.join(self._phrases(values, samples))}", highlight=False, markup=False, soft_wrap=True
        )

    def _phrases(self, values: Mapping[str, float], samples: int) -> Iterator[str]:
        for measure in MEASURES:
            if measure.brief and measure.metric in values:
                value, baseline = values[measure.metric], _baseline(measure, values)
                told = [] if baseline is None else [f"{measure.against} {measure.written(baseline)}"]
                told += [change] if (change := self._change(measure, value)) else []
                label = measure.label.format(n=samples)
                yield f"{label} {measure.written(value)}" + (f" ({', '.join(told)})" if told else "")
        if LEVEL in values:
            yield ", ".join(part for part in _health(values) if part)

    def _change(self, measure: Measure, value: float) -> str:
        before = self._before.get(measure.metric)
        return "" if before is None else measure.written(value - before, "+")


def _baseline(measure: Measure, values: Mapping[str, float]) -> float | None:
    if not measure.against:
        return None
    return values.get(measure.baseline) if isinstance(measure.baseline, str) else measure.baseline


def _health(values: Mapping[str, float]) -> tuple[str, str]:
    restored = int(values.get(RESTORATIONS, 0))
    return Level(int(values[LEVEL])).name.lower(), f"restored {restored} times" if restored else ""
