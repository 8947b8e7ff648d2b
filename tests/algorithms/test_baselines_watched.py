"""Callbacks beside SFT and GRPO: what they measure without a discriminator, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rairl_lightning.algorithms import GRPO
from rairl_lightning.algorithms.phases import SFTInitialisation
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks import (
    DiscriminatorProbe,
    FinalReport,
    Health,
    LeakProbes,
    Localisation,
    Reranking,
    RoundProgress,
    TraceLogger,
)
from rairl_lightning.callbacks.health import Above
from rairl_lightning.errors import ConfigError

VALIDATED = {"limit_val_batches": 1.0}
Make = Callable[..., RoundsModule]
BASELINES = pytest.mark.parametrize("make", [gates.sft, gates.grpo])

RULES = {"majority", "logprob", "shortest", "random", "oracle"}
OF_TWO = {f"{rule}@2" for rule in RULES - {"random"}}
FIGURES = ("token", "within_7", "interval", "step", "mrr")
METHODS = {f"{method}_{figure}" for method in ("logprob_drop", "chance") for figure in FIGURES}


def evaluations() -> list[Callback]:
    return [Reranking(2, 3, 4), Localisation(2, 3, 5), TraceLogger(2, 3)]


@BASELINES
def test_evaluations_rank_by_what_there_is(base: Path, tmp_path: Path, make: Make) -> None:
    trainer = gates.fit(make(gates.full(base)), tmp_path, evaluations(), **VALIDATED)
    trainer.test(trainer.lightning_module, datamodule=gates.data(), verbose=False)
    names = {name for row in trainer.logger.rows for name in row}
    for split in ("selection", "test"):
        assert {n.removeprefix(f"{split}/rerank/") for n in names if n.startswith(f"{split}/rerank/")} == RULES | OF_TWO
        assert {n.removeprefix(f"{split}/localise/") for n in names if n.startswith(f"{split}/localise/")} == METHODS
    rows = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows] == ["selection"] * 3 + ["test"] * 3
    assert all(row["reward"] is None and isinstance(row["correct"], bool) for row in rows)


@BASELINES
@pytest.mark.parametrize("callback", [DiscriminatorProbe, LeakProbes])
def test_what_looks_at_a_discriminator_is_refused_at_the_start(
    base: Path, tmp_path: Path, make: Make, callback: Any
) -> None:
    module = make(gates.full(base))
    with pytest.raises(ConfigError, match=f"remove {callback.__name__}"):
        gates.fit(module, tmp_path, [callback()], **VALIDATED)
    assert module.clock.batches == 0


def test_health_and_progress_watch_grpo(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    health = Health(every_n_rounds=2, confirm=1)
    trainer = gates.fit(gates.grpo(gates.full(base), rounds=4), tmp_path, [health, RoundProgress()], **VALIDATED)
    assert trainer.logger.having("health/level") == [0.0] * 4 and health.healthy is not None
    assert set(health.healthy.weights) == {"policy"} and set(health.healthy.moments) == {"policy"}
    printed = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.split()[0] == "rounds"]
    assert printed == [["rounds", f"{round_}/4"] for round_ in range(1, 5)]


@pytest.mark.filterwarnings("ignore:Health, ")
def test_health_restores_grpo(base: Path, tmp_path: Path) -> None:
    weights: dict[int, dict[str, Tensor]] = {}

    class Notes(Checkpoint):  # Health stands before what saves
        def on_train_batch_end(self, trainer: Any, pl_module: GRPO, *_: Any) -> None:
            weights[pl_module.clock.round] = gates.weights(pl_module)

    health = Health([Above("round", warning=4, collapse=4, patience=1)], every_n_rounds=2, confirm=1)
    gates.fit(gates.grpo(gates.full(base), rounds=4), tmp_path, [health, Notes()], **VALIDATED)
    assert [collapse.restored for collapse in health.collapses] == [2]
    assert gates.largest_difference(weights[4], weights[2]) == 0 < gates.largest_difference(weights[3], weights[2])


def test_the_report_of_grpo(base: Path, tmp_path: Path) -> None:
    sft = SFTInitialisation(1, monitor="log_likelihood")
    optimizer = gates.optimizer(1e-4)
    module = gates.grpo(gates.full(base), sft=sft, sft_optimizer=optimizer, policy_optimizer=optimizer)
    gates.fit(module, tmp_path, [FinalReport(questions=3, samples=4, policy_samples=2, interval=5)], **VALIDATED)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["pass@1"]) == ["sft", "sft_continued", "grpo"] and summary["best_of_4"].keys() == RULES
    assert summary["hit@1"].keys() == {"logprob_drop", "chance"} and "auroc" not in summary
    assert {"sft", "rounds", "sft_continued"} <= summary["seconds"].keys()


def test_the_report_of_sft(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = gates.sft(gates.full(base))
    gates.fit(module, tmp_path, [FinalReport(questions=3, samples=4, interval=5)], **VALIDATED)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["pass@1"]) == ["sft"] and summary["best_of_4"].keys() == RULES
    assert summary["best_of_4"]["random"] == summary["pass@1"]["sft"]["sampled"], "the same traces"
    assert "AUROC" not in capsys.readouterr().out
