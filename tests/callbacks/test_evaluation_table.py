"""What is printed of an evaluation: a table in a terminal, one line elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import gates
from rich.console import Console

from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.callbacks import EvaluationTable, Reranking
from rairl_lightning.callbacks.periodic import Evaluation


def printed(metrics: list[dict[str, float]], *, terminal: bool, health: dict[str, float] | None = None) -> str:
    """What is printed of evaluations, one after the other."""
    out, callback = io.StringIO(), EvaluationTable()
    callback._console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    module: Any = gates.module(None, rounds=12)
    module.clock.phase = Phase.ADVERSARIAL
    for number, one in enumerate(metrics, 1):
        module.clock.round = 4 * number
        logged = {f"selection/{name}": value for name, value in one.items()} | (health or {})
        trainer: Any = SimpleNamespace(is_global_zero=True, callback_metrics=logged)
        rows = [{"best_of": {"2": {}, "8": {}}}]
        callback.look(trainer, module, {Reranking: Evaluation(number, one, rows)})
        again = EvaluationTable()
        again._console = callback._console
        again.load_state_dict(callback.state_dict())
        callback = again  # a resumed run compares with the same
    return out.getvalue()


ONE = {"rerank/random": 0.5, "rerank/reward": 0.75, "rerank/auroc": 0.8, "localise/reward_step": float("nan")}
TWO = {"rerank/random": 0.5, "rerank/reward": 0.7, "rerank/auroc": 0.8125, "localise/reward_step": 0.4}
TWO |= {"localise/logprob_drop_step": 0.6}


def test_a_terminal_gets_a_table() -> None:
    health = {"health/level": 1.0, "health/restorations": 2.0}
    first, second = printed([ONE, TWO], terminal=True, health=health).split("selection, round 8 of 12")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in second.splitlines() if line.startswith("│")]
    assert "change" in first and "selection, round 4 of 12" in first
    assert cells == [
        ["pass@1, sampled, %", "50.0", "", "", "+0.0"],
        ["best of 8, reward, %", "70.0", "50.0 random", "+20.0", "-5.0"],
        ["AUROC of the reward", "0.812", "0.500 chance", "+0.312", "+0.012"],
        ["Hit@1, step, %", "40.0", "60.0 log-probability", "-20.0", ""],
        ["health", "warning", "restored 2 times", "", ""],
    ]
    assert "Hit@1" not in first, "not measured is not shown"


def test_elsewhere_it_is_one_line() -> None:
    lines = printed([ONE, TWO], terminal=False).splitlines()
    assert lines == [
        "selection, round 4 of 12: pass@1, sampled, % 50.0  best of 8, reward, % 75.0 (random 50.0)  "
        "AUROC of the reward 0.800 (chance 0.500)",
        "selection, round 8 of 12: pass@1, sampled, % 50.0 (+0.0)  best of 8, reward, % 70.0 (random 50.0, -5.0)  "
        "AUROC of the reward 0.812 (chance 0.500, +0.012)  Hit@1, step, % 40.0 (log-probability 60.0)",
    ]


def test_nothing_measured_is_nothing_printed() -> None:
    assert printed([{}], terminal=True) == ""
