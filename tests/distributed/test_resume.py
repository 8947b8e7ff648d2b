"""Two processes that stop and go on are two that did not stop: every tensor, and every figure that follows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from alike import EachStep
from lightning import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import InterruptCheckpoint
from rairl_lightning.components import Fixed


def rairl(base: Path) -> Callable[[], Any]:
    """Four steps of SFT, two of warm-up, two rounds; dropout, so that each process's own randomness counts."""
    sft = SFTInitialisation(1, monitor="log_likelihood")
    pair = gates.shared(base, dropout=0.1)
    settings = {"warmup": Warmup(2), "discriminator_updates": Fixed(1), "rounds": 2, "max_tokens_per_microbatch": 150}
    return lambda: gates.module(pair, sft=sft, **settings)


def sft(base: Path) -> Callable[[], Any]:
    return lambda: gates.sft(gates.shared(base, dropout=0.1), max_tokens_per_microbatch=60)


def grpo(base: Path) -> Callable[[], Any]:
    return lambda: gates.grpo(gates.full(base), rounds=4, policy_epochs=2, max_tokens_per_microbatch=150)


STOPS = {rairl: (2, 5, 7), sft: (3, 6), grpo: (2,)}  # in SFT, in the warm-up, in the rounds
VALIDATED = {"limit_val_batches": 1.0}


def written(row: dict[str, float]) -> str:
    """A row as text, in which a NaN equals itself."""
    return repr(sorted(row.items()))


@pytest.mark.parametrize("make", [rairl, grpo, pytest.param(sft, marks=pytest.mark.slow)])
def test_resuming_equals_no_stop(base: Path, tmp_path: Path, runs: Any, make: Any) -> None:
    saving = {"callbacks": lambda: [EachStep(tmp_path)], **VALIDATED}
    straight = runs.on_two(make(base), tmp_path / "straight", **saving)
    for stop in STOPS[make]:
        path = tmp_path / f"{stop}.ckpt"
        resumed = runs.on_two(make(base), tmp_path / str(stop), ckpt_path=path, **VALIDATED)
        for one, other in zip(straight, resumed, strict=True):
            assert gates.largest_difference(one["state"], other["state"]) == 0, f"stopped after step {stop}"
        rows = list(map(written, resumed[0]["rows"]))
        assert rows and rows == list(map(written, straight[0]["rows"]))[-len(rows) :], f"stopped after step {stop}"


@pytest.mark.slow
def test_one_process_goes_on_from_a_checkpoint_of_two(base: Path, tmp_path: Path, runs: Any) -> None:
    make = grpo(base)
    first, _ = runs.on_two(make, tmp_path / "two", callbacks=lambda: [EachStep(tmp_path)])
    alone = runs.trained(make, tmp_path / "one", ckpt_path=tmp_path / "3.ckpt")
    assert gates.largest_difference(first["state"], alone["state"]) < 2e-3, "one round of Adam's, of rounding errors"


class Sends(Callback):
    """SIGTERM to one process, in the middle of a step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.clock.batches == 1 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_to_one_process_stops_all_after_the_same_round(base: Path, tmp_path: Path, runs: Any) -> None:
    make, two = grpo(base), {"strategy": "ddp", "devices": 2}

    def stopped(rank: int) -> dict[str, bool]:
        with pytest.raises(SIGTERMException):
            runs.trained(make, tmp_path, callbacks=lambda: [InterruptCheckpoint(), Sends()], **two)
        return {"stopped": True}

    assert runs.spread(stopped, tmp_path / "told") == [{"stopped": True}] * 2
    path = tmp_path / "interrupted.ckpt"
    assert torch.load(path, weights_only=True)["rairl"]["clock"]["batches"] == 2
    straight = runs.on_two(make, tmp_path / "straight")
    resumed = runs.on_two(make, tmp_path / "resumed", ckpt_path=path)
    assert gates.largest_difference(straight[0]["state"], resumed[0]["state"]) == 0
