"""What a checkpoint holds, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import gates
import pytest
import torch
from checkpointed import a_module, run

from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.errors import CheckpointError
from rairl_lightning.models import LoRASpec, SharedBase
from rairl_lightning.module import RAIRL


def saved(spec: Any, folder: Path) -> tuple[RAIRL, Path]:
    module = a_module(spec, rounds=1)
    run(module, folder, [AdapterCheckpoint()])
    return module, folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("quantisation", [None, "nf4"])
def test_a_checkpoint_holds_nothing_of_the_base(base: Path, tmp_path: Path, quantisation: str | None) -> None:
    module, path = saved(gates.shared(base, quantisation), tmp_path)
    checkpoint = torch.load(path, weights_only=True)
    names = checkpoint["state_dict"].keys()
    assert all(".lora_" in name or name.startswith("discriminator.head.") for name in names)
    trained = [p for player in ("policy", "discriminator") for p in module.models.trainable_parameters(player)]
    assert len(names) == len(trained)
    assert len(checkpoint["optimizer_states"]) == len(checkpoint["lr_schedulers"]) == 3
    assert checkpoint["rairl"]["clock"]["round"] == 1
    assert checkpoint["DemonstrationDataModule"]["buffer"]["rounds"]


@pytest.fixture(scope="session")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with nothing wrong."""
    with torch.random.fork_rng(devices=[]):
        return saved(gates.shared(base), tmp_path_factory.mktemp("whole"))[1]


def broken(path: Path, change: Callable[[dict[str, Any]], Any], folder: Path) -> Path:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, folder / "broken.ckpt")
    return folder / "broken.ckpt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["state_dict"].pop(next(iter(c["state_dict"]))), "1 missing"),
        (lambda c: c["state_dict"].update({"policy.stranger": torch.zeros(1)}), "1 unexpected"),
        (lambda c: c["state_dict"].clear(), "missing"),
        (lambda c: c.pop("rairl"), "not written by rairl_lightning"),
        (lambda c: c["rairl"].update(base="0123"), "another base model"),
        (lambda c: c["DemonstrationDataModule"].update(buffer={"rounds": [{}]}), "replay buffer"),
    ],
)
def test_what_does_not_fit_is_refused(base: Path, tmp_path: Path, whole: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(a_module(gates.shared(base)), tmp_path, ckpt_path=broken(whole, change, tmp_path))


def test_the_same_architecture_with_other_weights_is_another_base(tmp_path: Path, whole: Path) -> None:
    other = gates.build_base(tmp_path / "other", steps=1, seed=1)
    with pytest.raises(CheckpointError, match="another base model"):
        run(a_module(gates.shared(other)), tmp_path, ckpt_path=whole)


def test_an_adapter_of_another_rank_is_refused(base: Path, tmp_path: Path, whole: Path) -> None:
    spec = gates.shared(base)
    wider = SharedBase(spec.backbone, LoRASpec(8, 8), spec.discriminator_lora, spec.head)
    with pytest.raises(CheckpointError, match="of another shape"):
        run(a_module(wider), tmp_path, ckpt_path=whole)


def test_a_checkpoint_runs_no_code(base: Path, tmp_path: Path, whole: Path) -> None:
    extra = Path("a class that is not a plain value")
    path = broken(whole, lambda checkpoint: checkpoint.update(extra=extra), tmp_path)
    with pytest.raises(UnpicklingError, match="weights_only"):
        run(a_module(gates.shared(base)), tmp_path, ckpt_path=path)


def test_testing_reads_the_checkpoint(base: Path, tmp_path: Path) -> None:
    trained, path = saved(gates.full(base), tmp_path)
    module = a_module(gates.full(base))
    gates.trainer(tmp_path).test(module, datamodule=gates.data(), ckpt_path=path, verbose=False)
    assert gates.largest_difference(gates.weights(trained), gates.weights(module)) == 0
