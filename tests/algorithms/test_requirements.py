"""What cannot work is refused before the first step, and an SFT phase that is stopped still keeps its best epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning import Callback
from torch import Tensor

from rairl_lightning.algorithms import SFT
from rairl_lightning.algorithms.phases import Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.requirements import require_perturbed
from rairl_lightning.errors import ConfigError
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import HFSampler

EPOCHS = SFTInitialisation(2, monitor="log_likelihood")  # of four steps each
GREEDY = HFSampler(max_new_tokens=20, temperature=0.0)


def fit(module: Any, folder: Path, callbacks: Any = (), data: Any = None, **settings: Any) -> None:
    trainer = gates.trainer(folder, callbacks, **{"limit_val_batches": 1.0, **settings})
    trainer.fit(module, datamodule=data or gates.data())


@dataclass(frozen=True)
class Unselected(gates.Gates):
    selection: int = 0


@pytest.mark.parametrize(
    ("make", "changed", "data", "settings", "told"),
    [
        (gates.sft, {}, {}, {"max_epochs": 1}, r"trainer\.max_epochs .*sft\.epochs: 2"),
        (gates.sft, {}, {}, {"max_epochs": 0}, r"trainer\.max_epochs .*sft\.epochs: 2"),
        (gates.sft, {}, {}, {"max_steps": 7}, r"trainer\.max_steps .*sft\.epochs: 2"),
        (gates.grpo, {"sft": EPOCHS}, {}, {"max_epochs": 2}, r"trainer\.max_epochs .*sft\.epochs: 2"),
        (gates.module, {"sft": EPOCHS}, {}, {"max_steps": 8}, r"trainer\.max_steps .*sft\.epochs: 2"),
        (gates.sft, {}, {}, {"limit_val_batches": 0}, "validation after each"),
        (gates.sft, {}, {}, {"check_val_every_n_epoch": 2}, "validation after each"),
        (gates.sft, {}, {"source": Unselected()}, {}, "selection split, which is empty"),
        (gates.module, {"sampler": GREEDY, "warmup": Warmup(0)}, {}, {}, r"sampler\.temperature > 0"),
        (gates.module, {"sampler": GREEDY, "rounds": 0}, {}, {}, r"sampler\.temperature > 0"),
        (gates.grpo, {"sampler": GREEDY}, {}, {}, r"sampler\.temperature > 0"),
        (gates.module, {"perturbed_share": 0.5}, {"perturbed_copies": 0}, {}, r"data\.perturbed_copies >= 1"),
        (gates.module, {"perturbed_share": 0.5}, {"perturbations": []}, {}, r"data\.perturbations"),
    ],
)
def test_refused_before_the_first_step(
    base: Path, tmp_path: Path, make: Any, changed: Any, data: Any, settings: Any, told: str
) -> None:
    module = make(gates.full(base), **changed)
    with pytest.raises(ConfigError, match=told):
        fit(module, tmp_path, data=gates.data(**data), **settings)
    assert module.clock.batches == 0


@pytest.mark.parametrize(
    ("make", "changed", "settings"),
    [
        (gates.sft, {"sampler": GREEDY}, {"max_epochs": 2, "max_steps": 8}),
        (gates.grpo, {"sft": EPOCHS, "rounds": 1}, {"max_epochs": 3, "max_steps": 9}),
        (gates.grpo, {"sft": EPOCHS}, {"fast_dev_run": 1}),
        (gates.grpo, {"rounds": 1}, {"max_epochs": 1, "limit_val_batches": 0}),
    ],
)
def test_what_is_just_enough_is_not_refused(base: Path, tmp_path: Path, make: Any, changed: Any, settings: Any) -> None:
    module = make(gates.full(base), **changed)
    fit(module, tmp_path, **settings)
    trial = "fast_dev_run" in settings
    assert (module.clock.sft_epoch == module.sft.epochs and module.clock.round == module.rounds) != trial


def test_a_share_of_nothing_needs_nothing() -> None:
    nothing = gates.data(perturbed_copies=0, perturbations=[])
    require_perturbed(None, nothing)
    require_perturbed(0.0, nothing)
    require_perturbed(0.5, gates.data())
    require_perturbed(0.5, None)  # bare loaders


SCORES = (0.1, 0.9, 0.3, 0.2, 0.1)


class ScriptedSFT(SFT):
    """Validation says what the test wants it to say."""

    def evaluate_batch(self, batch: Any, split: str) -> dict[str, Tensor]:
        self.log("selection/pass@1", SCORES[self.trainer.current_epoch], batch_size=len(batch))
        return {}


class ScriptedRAIRL(RAIRL):
    """Likewise."""

    evaluate_batch = ScriptedSFT.evaluate_batch


class OutOfTime(Callback):
    """Stops within the third epoch, as ``trainer.max_time`` does; sees what a report at the end would see."""

    def __init__(self) -> None:
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        trainer.should_stop = pl_module.clock.batches == 10

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validated.append({k: v.clone() for k, v in pl_module.models.adapter_state("policy").items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.reported = {k: v.clone() for k, v in pl_module.models.adapter_state("policy").items()}


@pytest.mark.parametrize(("make", "scripted"), [(gates.sft, ScriptedSFT), (gates.module, ScriptedRAIRL)])
def test_an_sft_phase_that_is_stopped_keeps_its_best_epoch(
    base: Path, tmp_path: Path, make: Any, scripted: Any
) -> None:
    torch.manual_seed(0)
    module, callback = make(gates.full(base), sft=SFTInitialisation(5, patience=5)), OutOfTime()
    module.__class__ = scripted
    with pytest.warns(UserWarning, match="epoch 3 of 5 of its SFT phase"):
        fit(module, tmp_path, [callback])
    assert module.clock.batches == 10 and module.clock.phase is not Phase.SFT
    assert len(callback.validated) == 3
    assert gates.largest_difference(callback.reported, callback.validated[1]) == 0
    assert gates.largest_difference(callback.reported, callback.validated[2]) > 0, "negative control: the last differs"
    assert gates.largest_difference(callback.reported, module.models.adapter_state("reference")) == 0
