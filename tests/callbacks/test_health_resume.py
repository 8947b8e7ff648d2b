"""Health in a run that stops and goes on.

Nothing of what it knows is lost, and nothing is read twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gates
import pytest
import torch
from collapsing import Run, expected_collapse, run, scripted

from rairl_lightning.callbacks import (
    Health,
    RolloutRecorder,
)
from rairl_lightning.callbacks.health import FormatRate, HeldoutAuroc
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.errors import CheckpointError
from rairl_lightning.module import RAIRL


@expected_collapse
def test_resuming_after_any_round_equals_no_stop(base: Path, tmp_path: Path) -> None:
    def health(**settings: Any) -> Health:
        return scripted(6, 9, warns=(8,), **settings)

    straight = run(base, tmp_path, health(), saved=True)
    for stop in (2, 4, 5, 6, 8):  # nothing yet; a candidate; confirmed; restored; suspicious
        resumed = run(base, tmp_path, health(), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert gates.largest_difference(straight.states[10], resumed.states[10]) == 0, f"stopped after round {stop}"
        assert resumed.health.verdict == straight.health.verdict
        assert [watch.state_dict() for watch in resumed.health.watches] == [
            watch.state_dict() for watch in straight.health.watches
        ]
    checkpoint = torch.load(tmp_path / "5.ckpt", weights_only=True)
    checkpoint["callbacks"]["Health"]["snapshots"] = {}
    torch.save(checkpoint, tmp_path / "5.ckpt")
    without = run(base, tmp_path, health(), ckpt_path=tmp_path / "5.ckpt")
    names = gates.weights(straight.module)
    ends = [{name: one.states[10][name] for name in names} for one in (straight, without)]
    assert gates.largest_difference(*ends) > 0, "control: they are needed"


@expected_collapse
def test_smaller_checkpoints_resume_from_what_they_hold(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path, scripted(save_snapshots=False), rounds=6, saved=True)
    checkpoint = torch.load(tmp_path / "5.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["Health"]["snapshots"] == {}
    resumed = run(base, tmp_path, scripted(6, save_snapshots=False), rounds=6, ckpt_path=tmp_path / "5.ckpt")
    assert resumed.health.collapses[0].restored == 5


def test_other_signs_do_not_fit_the_checkpoint(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path, scripted(), rounds=1, saved=True)
    with pytest.raises(CheckpointError, match="watched other signs"):
        run(base, tmp_path, Health([FormatRate()]), ckpt_path=tmp_path / "1.ckpt")


@expected_collapse
def test_what_was_measured_of_the_discarded_discriminator_is_read_once(base: Path, tmp_path: Path) -> None:
    """A held figure stays logged after the restoration, and is gone after a resumption: neither is a new reading."""

    class Measured(RolloutRecorder):
        areas: ClassVar = {1: 0.8, 5: 0.2, 9: 0.3}

        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            if pl_module.clock.round in self.areas:
                log_once(trainer, pl_module, {"discriminator/heldout_auroc": self.areas[pl_module.clock.round]})

    def go(ckpt_path: Path | None = None) -> Run:
        health = Health([HeldoutAuroc(patience=1)], every_n_rounds=3, confirm=2, max_restorations=1)
        return run(base, tmp_path, health, saved=ckpt_path is None, ckpt_path=ckpt_path, more=[Measured()])

    straight = go()
    assert [collapse.round for collapse in straight.health.collapses] == [5, 9], "once a measurement"
    for stop in (5, 6):  # with the collapse, and after it
        resumed = go(tmp_path / f"{stop}.ckpt")
        assert resumed.health.verdict == straight.health.verdict
        assert resumed.health.watches[0].state_dict() == straight.health.watches[0].state_dict()
        assert gates.largest_difference(straight.states[9], resumed.states[9]) == 0, f"stopped after round {stop}"
