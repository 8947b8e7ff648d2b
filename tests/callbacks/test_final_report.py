"""The table of a run: the figures asked for, each with its interval, and a policy that is left as it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import FinalReport, Localisation
from rairl_lightning.components import TwoHead
from rairl_lightning.models import BackboneSpec, FullFineTuning, TwoHeads
from rairl_lightning.module import RAIRL
from rairl_lightning.types import TokenBatch

PASS = {"sft", "sft_continued", "rairl"}
RULES = {"reward", "majority", "weighted", "logprob", "shortest", "random", "oracle"}
METHODS = {"reward", "logprob_drop", "chance"}


class Snapshot(Callback):
    """The weights as training left them; stands before the report."""

    def on_train_end(self, trainer: Any, pl_module: RAIRL) -> None:
        self.weights = gates.weights(pl_module)


def fit(base: Path, folder: Path, *callbacks: Callback, epochs: int = 2, **settings: Any) -> Any:
    sft = SFTInitialisation(epochs, monitor="log_likelihood")
    optimizer = gates.optimizer(1e-4)  # an SFT that learns everything leaves nothing to compare
    module = gates.module(
        gates.full(base), sft=sft, rounds=2, warmup=Warmup(2), sft_optimizer=optimizer, policy_optimizer=optimizer
    )
    trainer = gates.trainer(folder, callbacks, limit_val_batches=1.0, **settings)
    trainer.fit(module, datamodule=gates.data())
    return module


@pytest.fixture(scope="module")
def reported(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], RAIRL, Snapshot]:
    folder, snapshot = tmp_path_factory.mktemp("report"), Snapshot()
    module = fit(base, folder, snapshot, FinalReport(questions=4, samples=6, interval=5))
    return json.loads((folder / "summary.json").read_text()), module, snapshot


def test_the_summary_has_the_keys_asked_for(reported: Any) -> None:
    summary, _, _ = reported
    assert {"seed", "commit", "seconds", "pass@1", "best_of_6", "hit@1", "auroc"} <= summary.keys()
    assert summary["pass@1"].keys() == PASS and summary["best_of_6"].keys() == RULES
    assert summary["hit@1"].keys() == METHODS
    assert all(one.keys() == {"greedy", "sampled"} for one in summary["pass@1"].values())
    assert all(one.keys() == {"token", "interval", "step"} for one in summary["hit@1"].values())
    assert {"sft", "warm-up", "adversarial", "sft_continued", "evaluation", "total"} <= summary["seconds"].keys()


def test_every_figure_is_a_mean_within_its_interval(reported: Any) -> None:
    summary, _, _ = reported
    figures = [*summary["best_of_6"].values(), summary["auroc"]]
    figures += [bounds for block in ("pass@1", "hit@1") for one in summary[block].values() for bounds in one.values()]
    assert len(figures) == len(RULES) + 1 + 3 * 2 + 3 * 3
    for mean, low, high in figures:
        assert 0 <= low <= mean <= high <= 1
    assert summary["best_of_6"]["random"][0] == summary["pass@1"]["sft"]["sampled"][0], "the same traces"
    assert summary["best_of_6"]["random"][0] <= summary["best_of_6"]["oracle"][0]


def test_the_policy_is_left_as_training_left_it(reported: Any) -> None:
    _, module, snapshot = reported
    assert gates.largest_difference(snapshot.weights, gates.weights(module)) == 0
    sft, rairl = (module.models.adapter_state(role) for role in ("reference", "policy"))
    assert gates.largest_difference(sft, rairl) > 0, "negative control: there was something to put back"


def test_sft_is_continued_for_the_time_the_rounds_took(reported: Any) -> None:
    seconds = reported[0]["seconds"]
    assert seconds["sft_continued"] + 0.1 >= seconds["warm-up"] + seconds["adversarial"] - 0.2
    assert seconds["total"] + 0.3 >= sum(value for name, value in seconds.items() if name not in ("total", "install"))


class Clock:
    """Stands still unless it is told to move, for whatever reads ``perf_counter`` of the module ``time``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stopped_at = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.stopped_at)


def test_a_resumed_run_reports_the_time_of_both_parts(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Checkpoint):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            if pl_module.clock.round == 1:
                trainer.save_checkpoint(tmp_path / "one.ckpt")

    fit(base, tmp_path, FinalReport(questions=2, samples=2), Stop())
    state = torch.load(tmp_path / "one.ckpt", weights_only=True)["callbacks"]["FinalReport"]
    report, clock = FinalReport(), Clock(monkeypatch)
    report.setup(None, None, "fit")
    assert set(state["seconds"]) == {"sft", "warm-up", "adversarial"}
    clock.stopped_at += 2000
    assert report.state_dict()["total"] == 2000, "negative control: nothing of the first part"
    report.load_state_dict(state)
    assert report._seconds == state["seconds"]
    assert report.state_dict()["total"] == pytest.approx(state["total"])
    clock.stopped_at += 10
    assert report.state_dict()["total"] == pytest.approx(state["total"] + 10)


def test_what_other_callbacks_do_is_no_training(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, passed, real = 20.0, [], time.perf_counter  # longer than two rounds take on any machine

    class Slow(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            passed.append(pause if pl_module.clock.round else 0)

    monkeypatch.setattr(time, "perf_counter", lambda: real() + sum(passed))
    fit(base, tmp_path, Slow(), report := FinalReport(questions=2, samples=2))
    assert report._seconds["adversarial"] < pause
    assert report.state_dict()["total"] > 2 * pause, "negative control: the clock did go on in the pauses"


def test_without_sft_there_is_nothing_to_compare(base: Path, tmp_path: Path) -> None:
    fit(base, tmp_path, FinalReport(questions=2, samples=2), epochs=0)
    assert not (tmp_path / "summary.json").exists()


def test_where_no_perturbation_applies_two_heads_report_no_localisation(base: Path, tmp_path: Path) -> None:
    pair = FullFineTuning(BackboneSpec(str(base)), TwoHeads())
    sft = SFTInitialisation(1, monitor="log_likelihood")
    module = gates.module(pair, critic=TwoHead(), sft=sft, rounds=1, warmup=Warmup(0))
    callbacks = [Localisation(1, 3, 5), FinalReport(questions=2, samples=2)]
    trainer = gates.trainer(tmp_path, callbacks, limit_val_batches=1.0)
    trainer.fit(module, datamodule=gates.data(perturbations=[]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["hit@1"]["reward"] == {level: [None] * 3 for level in ("token", "interval", "step")}
    assert not any("localise" in name for row in trainer.logger.rows for name in row)
    assert module.pay(TokenBatch.from_traces([], module.codec.pad_id)).shape == (0, 0)
