"""Leak probes on runs of a few rounds: what is measured when, what is said, and that nothing else changes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import LeakProbes
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation import leaks
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler

AREAS = "leaks/rollouts/all_features"


class After(Checkpoint):
    """Saves after one training step, and can stop there."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.step = folder / f"{step}.ckpt", step

    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        if pl_module.clock.batches == self.step:
            trainer.save_checkpoint(self.path)


@contextmanager
def said() -> Iterator[list[str]]:
    """What leak probes warned of; other warnings stay errors."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="LeakProbes")
        yield messages
    messages += [str(one.message) for one in caught]


def fit(base: Path, folder: Path, *callbacks: Any, data: Any = None, ckpt_path: Any = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    trainer = gates.trainer(folder, callbacks, limit_val_batches=1.0 if "sft" in settings else 0)
    module = gates.module(gates.full(base), **{"warmup": Warmup(4), "rounds": 4, **settings})
    data = data or gates.data(source=gates.Gates(train=40), batch_size=8)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def measured(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "leaks.json").read_text())["measurements"]


@pytest.fixture(scope="module")
def probed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str], Path]:
    """Two steps of warm-up and four rounds, measured after the third and the sixth step."""
    folder = tmp_path_factory.mktemp("probed")
    with said() as messages:
        trainer = fit(base, folder, LeakProbes(every_n_rounds=3, window=3), After(folder, 4))
    return trainer, messages, folder


def test_it_measures_before_and_during_training(probed: Any) -> None:
    trainer, _, folder = probed
    entries = measured(folder)
    assert [(one["after_rounds"], one["comparison"]) for one in entries] == [
        *((0, "before"), (3, "rollouts"), (3, "perturbed"), (6, "rollouts"), (6, "perturbed"))
    ]
    assert len(trainer.logger.having(AREAS)) == 2 and len(trainer.logger.having("leaks/before/all_features")) == 1
    assert all(0 <= one["all_features"]["auroc"] <= 1 and one["features"] for one in entries)
    (step,) = [row["step"] for row in trainer.logger.rows if "leaks/before/all_features" in row]
    assert step == 0


def test_it_measures_what_the_discriminator_learns_from(probed: Any) -> None:
    """Experts and agreeing rollouts against the other rollouts, and against perturbed demonstrations."""
    trainer, _, folder = probed
    before, rollouts, perturbed = measured(folder)[:3]
    assert (before["positives"], before["negatives"], before["prompts"]) == (40, 40, [40, 40])
    agreement = trainer.logger.having("rollouts/agreement")[:3]
    agreeing = round(sum(agreement) * 8 * 4)
    assert 0 < agreeing < 3 * 8 * 4
    assert rollouts["positives"] == 3 * 8 + agreeing and rollouts["negatives"] == 3 * 8 * 4 - agreeing
    assert perturbed["positives"] == 3 * 8 + agreeing and perturbed["negatives"] == 3 * 8


def test_a_leak_is_named_once(probed: Any) -> None:
    """The toy's experts all write the same words, and the wrong rollouts end with another."""
    _, messages, folder = probed
    before, during = messages[0], [one for one in messages if "rollouts labelled negative" in one]
    assert "demonstrations from perturbed demonstrations" in before and "`first_" in before
    assert len(during) == 1 and "last_tokens" in during[0] and "good reason" in during[0]
    assert "last_tokens" in measured(folder)[1]["leaks"] and "last_tokens" in measured(folder)[3]["leaks"]
    assert not any("ends_with_eos" in message for message in messages)


def test_a_cut_off_trace_is_named(base: Path, tmp_path: Path) -> None:
    sampler, data = (
        HFSampler(max_new_tokens=6),
        gates.data(source=gates.Gates(train=40), batch_size=8, perturbations=[]),
    )
    with said() as messages:
        fit(base, tmp_path, LeakProbes(3, 3), data=data, sampler=sampler, warmup=Warmup(6), rounds=1)
    (message,) = messages
    assert "ends_with_eos" in message and "max_new_tokens" in message
    assert [one["comparison"] for one in measured(tmp_path)] == ["rollouts", "perturbed"]
    assert measured(tmp_path)[1]["judged"] is False, "there are none"


def test_nothing_is_said_where_nothing_leaks(base: Path, tmp_path: Path) -> None:
    with said() as messages:
        trainer = fit(base, tmp_path, LeakProbes(3, 3, threshold=0.999))
    assert messages == [] and len(trainer.logger.having(AREAS)) == 2
    assert all(one["leaks"] == [] for one in measured(tmp_path))


def test_it_changes_nothing(base: Path, tmp_path: Path) -> None:
    plain = gates.weights(fit(base, tmp_path, rounds=2).lightning_module)
    with said():
        watched = gates.weights(fit(base, tmp_path, LeakProbes(1, 2), rounds=2).lightning_module)
    assert gates.largest_difference(plain, watched) == 0


@pytest.mark.parametrize("window", [1, 2])
def test_only_the_window_is_looked_at(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    seen: list[int] = []
    original = leaks.Traits.of_tokens
    monkeypatch.setattr(leaks.Traits, "of_tokens", lambda *args: seen.append(1) or original(*args))
    fit(base, tmp_path, LeakProbes(3, window, demonstrations=0, threshold=0.999))
    assert len(seen) == 2 * window * 4, "four kinds of traces a round, at two measurements"
    assert [one["comparison"] for one in measured(tmp_path)] == ["rollouts", "perturbed"] * 2


def test_the_sft_initialisation_is_no_round(base: Path, tmp_path: Path) -> None:
    sft = SFTInitialisation(1, monitor="log_likelihood")
    with said():
        fit(base, tmp_path, LeakProbes(3, 3), sft=sft, warmup=Warmup(2), rounds=2)
    assert [one["after_rounds"] for one in measured(tmp_path)] == [0, 3, 3], "five steps of SFT are not counted"


def test_resuming_is_not_to_have_stopped(base: Path, tmp_path: Path, probed: Any) -> None:
    straight, first, folder = probed
    with said() as messages:
        trainer = fit(base, tmp_path, LeakProbes(every_n_rounds=3, window=3), ckpt_path=folder / "4.ckpt")
    assert measured(tmp_path) == measured(folder)
    assert trainer.logger.having(AREAS) == straight.logger.having(AREAS)[1:]
    assert trainer.logger.having("leaks/before/all_features") == [] and not set(messages) & set(first)


def test_a_window_of_another_version_is_left_out(probed: Any) -> None:
    _, _, folder = probed
    (state,) = [s for name, s in torch.load(folder / "4.ckpt")["callbacks"].items() if name.startswith("LeakProbes")]
    restored = LeakProbes()
    restored.load_state_dict(state)
    assert len(restored.state_dict()["window"]) == len(state["window"]) > 0
    del state["window"][0]["rollouts"]["numbers"]["words"]
    restored.load_state_dict(state)
    assert len(restored.state_dict()["window"]) == len(state["window"]) - 1
    assert restored.state_dict()["warned"] == state["warned"] != []


@pytest.mark.parametrize(
    "settings", [{"every_n_rounds": 0}, {"window": 0}, {"demonstrations": -1}, {"threshold": 1.0}, {"threshold": 0.4}]
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="every_n_rounds"):
        LeakProbes(**settings)
