"""What Health does about a collapse: where it goes back to, what it changes for good, and when it gives up."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gates
import jsonargparse
import pytest
import torch
from collapsing import FACTOR, RATE, At, expected_collapse, run, scripted

from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.callbacks import (
    AdapterCheckpoint,
    Health,
    InterruptCheckpoint,
    RolloutRecorder,
)
from rairl_lightning.callbacks.health import FormatRate, Outcome
from rairl_lightning.components.schedules import Constant, CosineWithWarmup
from rairl_lightning.errors import ConfigError
from rairl_lightning.module import RAIRL

# --- Restoring ----------------------------------------------------------------------------------------------------


@expected_collapse
@pytest.mark.parametrize("pair", [gates.full, gates.shared])
def test_everything_is_put_back_bit_for_bit_and_as_often_as_needed(base: Path, tmp_path: Path, pair: Any) -> None:
    done = run(base, tmp_path, scripted(6, 8), pair=pair, rounds=9)
    third, states = done.states[3], done.states
    assert [collapse.restored for collapse in done.health.collapses] == [3, 3]
    for round_ in (6, 8):  # the second time from the same snapshot, which the steps between did not touch
        assert gates.largest_difference(states[round_], third) == 0
    assert any(name.startswith("discriminator.0.exp_avg") for name in third)
    assert {name.split(".")[0] for name in third} >= {"policy", "discriminator", "buffer"}
    for round_ in (4, 5, 7, 9):
        moved = {name: states[round_][name] for name in third}  # the buffer has grown besides
        assert gates.largest_difference(moved, third) > 0, "control: it moves"


@expected_collapse
def test_before_any_snapshot_is_confirmed_it_goes_back_to_the_start(base: Path, tmp_path: Path) -> None:
    done = run(base, tmp_path, scripted(4), rounds=4)
    assert done.health.collapses[0].restored == 0
    start = done.states[0]
    own = {name: tensor for name, tensor in done.states[4].items() if not name.startswith("buffer")}
    assert gates.largest_difference(own, {name: start[name] for name in own}) == 0
    assert not any(name.startswith("policy.0") for name in start), "no moments yet, and so none afterwards"


@expected_collapse
@pytest.mark.parametrize(("suspicious", "restored"), [((), 6), ((8,), 3), ((6, 7, 8), 3)])
def test_a_snapshot_is_healthy_only_if_the_rounds_after_it_were(
    base: Path, tmp_path: Path, suspicious: tuple[int, ...], restored: int
) -> None:
    done = run(base, tmp_path, scripted(9, warns=suspicious), rounds=9)
    assert done.health.collapses[0].restored == restored


@expected_collapse
def test_the_clock_goes_on_and_the_auroc_goes_back(base: Path, tmp_path: Path) -> None:
    class Measured(RolloutRecorder):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            pl_module.clock.heldout_auroc = float(pl_module.clock.round)

    done = run(base, tmp_path, scripted(6), rounds=6, more=[Measured()])
    assert done.module.clock.heldout_auroc == 3.0 and done.module.clock.round == 6
    assert done.module.clock.policy_updates == done.trainer.global_step == 6


# --- The learning rate --------------------------------------------------------------------------------------------


@pytest.mark.slow
@expected_collapse
@pytest.mark.parametrize("schedule", [Constant(), CosineWithWarmup(0.2)])
def test_the_policy_learns_more_slowly_for_good(base: Path, tmp_path: Path, schedule: Any) -> None:
    factors = [FACTOR ** ((index >= 4) + (index >= 6)) for index in range(10)]
    wanted = [RATE * factor * schedule.factor(index, 10) for index, factor in enumerate(factors)]
    settings = {"policy_schedule": schedule, "discriminator_schedule": schedule}
    done = run(base, tmp_path, scripted(4, 6), saved=True, **settings)
    assert done.trainer.logger.having("policy/learning_rate") == pytest.approx(wanted)
    resumed = run(base, tmp_path, scripted(4, 6), ckpt_path=tmp_path / "7.ckpt", **settings)
    assert resumed.trainer.logger.having("policy/learning_rate") == pytest.approx(wanted[7:])
    discriminator = done.trainer.logger.having("discriminator/learning_rate")[-2]
    other = run(base, tmp_path, scripted(), **settings).trainer.logger.having("discriminator/learning_rate")[-2]
    assert discriminator == other, "its schedule follows the clock, and its rate is its own"
    assert done.health.verdict is not None and done.health.verdict.policy_rate_factor == pytest.approx(FACTOR**2)


# --- Giving up ----------------------------------------------------------------------------------------------------


@expected_collapse
def test_after_enough_restorations_it_stops_with_the_healthy_pair(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(base, tmp_path, scripted(6, 8, max_restorations=1), more=[AdapterCheckpoint()])
    verdict = done.health.verdict
    assert verdict is not None and verdict.outcome is Outcome.COLLAPSED and done.module.clock.round == 8
    assert "STOPPED after 8 rounds" in str(verdict) and "those of round 3" in str(verdict)
    last = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)["state_dict"]
    assert gates.largest_difference(saved, {name: done.states[3][name] for name in saved}) == 0
    assert done.trainer.logger.having("health/stopped") == [0.0] * 7 + [1.0]
    assert done.trainer.logger.having("health/restorations")[-3:] == [1.0, 1.0, 1.0]

    again = run(base, tmp_path, scripted(6, 8, max_restorations=1), ckpt_path=last)
    assert again.module.clock.round == 8, "a run that was stopped is not continued"
    further = run(base, tmp_path, scripted(6, 8, max_restorations=2), ckpt_path=last)
    assert further.module.clock.round == 10, "unless more is allowed"
    assert further.health.verdict is not None and further.health.verdict.outcome is Outcome.RECOVERED


@expected_collapse
def test_nothing_is_lost_in_the_last_round(base: Path, tmp_path: Path) -> None:
    """Patience cannot be waited for at the end: one reading at the collapse level restores, but only there."""
    health = Health([At((5, 10), patience=3)], every_n_rounds=3, confirm=2)
    done = run(base, tmp_path, health)
    assert [(collapse.round, collapse.restored) for collapse in health.collapses] == [(10, 6)]
    assert gates.largest_difference(done.states[10], done.states[6]) == 0


# --- Doing nothing ------------------------------------------------------------------------------------------------


def test_a_healthy_run_is_the_run_without_it(base: Path, tmp_path: Path) -> None:
    """All default signs; a warning would be an error here."""
    watched = run(base, tmp_path, Health(every_n_rounds=2, confirm=1), saved=True, read=True)
    plain = run(base, tmp_path, Health([], every_n_rounds=100), read=True)
    assert gates.largest_difference(watched.states[10], plain.states[10]) == 0
    assert watched.health.verdict is not None and watched.health.verdict.outcome is Outcome.HEALTHY
    assert str(watched.health.verdict) == "Health: no collapse in 10 rounds."
    assert watched.health.healthy is not None and watched.health.healthy.round >= 6
    observed = {watch.sign.metric for watch in watched.health.watches if watch.value is not None}
    assert observed == {watch.sign.metric for watch in watched.health.watches} - {"discriminator/heldout_auroc"}
    assert torch.load(tmp_path / "10.ckpt", weights_only=True)["callbacks"]["Health"]["snapshots"]["healthy"]["weights"]


def test_the_warm_up_gives_the_baseline_and_the_readings_are_of_the_round(base: Path, tmp_path: Path) -> None:
    done = run(base, tmp_path, Health([FormatRate()], window=4), rounds=0, warmup=Warmup(8), read=True)
    rates = done.trainer.logger.having("rollouts/format_rate")
    assert len(rates) == 4 and done.health.watches[0].history.recent == pytest.approx(rates)


def test_the_sft_initialisation_is_left_alone(base: Path, tmp_path: Path) -> None:
    class NoSFT(Health):
        def _metrics(self, *args: Any) -> dict[str, float]:
            assert self._phase is not Phase.SFT
            return super()._metrics(*args)

    torch.manual_seed(0)
    sft = SFTInitialisation(2, monitor="log_likelihood")
    module, health = gates.module(gates.full(base), sft=sft, rounds=2), NoSFT()
    trainer = gates.trainer(tmp_path, [health], limit_val_batches=1.0)
    trainer.fit(module, datamodule=gates.data())
    assert (
        module.clock.round == 2
        and health.healthy is not None
        and set(health.healthy.moments)
        == {
            "policy",
            "discriminator",
        }
    )


def test_a_warning_comes_before(base: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Health, round 3: At: round is 3, expected another round; .* Try: ") as seen:
        done = run(base, tmp_path, scripted(warns=(3, 4)), rounds=5)
    assert len([one for one in seen if "Health" in str(one.message)]) == 1, "once an episode"
    assert done.trainer.logger.having("health/level") == [0, 0, 1, 1, 0]
    assert done.trainer.logger.having("health/signs") == [0, 0, 1, 1, 0]


# --- Place and settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_it_stands_behind_what_measures_and_before_what_saves(tmp_path: Path, order: tuple[int, ...]) -> None:
    parts = [Health([]), RolloutRecorder(), AdapterCheckpoint(), InterruptCheckpoint()]
    trainer = gates.trainer(tmp_path, [parts[index] for index in order])
    for callback in list(trainer.callbacks):
        callback.setup(trainer, torch.nn.Module(), "fit")
    kinds = [type(one).__name__ for one in trainer.callbacks]
    assert kinds == ["RolloutRecorder", "RolloutRecorder", "Health", "AdapterCheckpoint", "InterruptCheckpoint"]


@pytest.mark.parametrize(
    "settings",
    [{"window": 0}, {"every_n_rounds": 0}, {"confirm": 0}, {"policy_rate_factor": 0.0}, {"max_restorations": -1}],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Health cannot run"):
        Health(**settings)


def test_signs_are_named_in_yaml() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Health, "health")
    node = {"class_path": "rairl_lightning.callbacks.health.FormatRate", "init_args": {"collapse": 0.3}}
    built = parser.instantiate_classes(parser.parse_object({"health": {"signs": [node], "window": 4}})).health
    assert [watch.sign for watch in built.watches] == [FormatRate(collapse=0.3)]
