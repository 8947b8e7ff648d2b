"""FSDP2: two processes with a part of the weights each give what one process with all of them gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from alike import TOLERANCE, EachStep, agree, data, grpo, rairl
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rairl_lightning.algorithms.phases import SFTInitialisation
from rairl_lightning.callbacks import AdapterCheckpoint, Health
from rairl_lightning.components import ApproximateR1, Pairwise, R1Penalty
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import processes

pytestmark = pytest.mark.filterwarnings("ignore:Health, ")
SHARDED = {"strategy": "fsdp2"}
LIMITS = {"limit_val_batches": 1.0, "data": data()}


def every_phase(base: Path, rounds: int = 2) -> Callable[[], Any]:
    """SFT, whose policy the reference becomes; warm-up; two rounds with a penalty on the discriminator's gradient."""
    pair = replace(gates.shared(base), activation_checkpointing=True)
    sft = SFTInitialisation(1, monitor="log_likelihood")
    return rairl(base, pair, sft=sft, rounds=rounds, discriminator_penalty=ApproximateR1())


@dataclass(frozen=True)
class Straight:
    """A run that was not stopped, by one process and by two, and the two's folder with a checkpoint for each step."""

    make: Callable[[], Any]
    alone: dict[str, Any]
    two: list[dict[str, Any]]
    folder: Path


def callbacks(folder: Path) -> Callable[[], list[Any]]:
    return lambda: [Health(), AdapterCheckpoint(every_n_rounds=1), EachStep(folder)]


@pytest.fixture(scope="module")
def straight(base: Path, runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder, make = tmp_path_factory.mktemp("straight"), every_phase(base)
    with torch.random.fork_rng(devices=[]):
        alone = runs.trained(make, folder / "alone", callbacks=callbacks(folder / "alone"), **LIMITS)
        two = runs.on_two(make, folder, callbacks=callbacks(folder), **SHARDED, **LIMITS)
    return Straight(make, alone, two, folder)


def test_shards_give_the_result_of_one_process(straight: Straight) -> None:
    first, second = straight.two
    agree(straight.alone, first)
    assert gates.largest_difference(first["state"], second["state"]) == 0, "the processes agree bit for bit"


def test_resuming_equals_no_stop(straight: Straight, tmp_path: Path, runs: Any) -> None:
    path = straight.folder / "4.ckpt"
    resumed, _ = runs.on_two(straight.make, tmp_path, ckpt_path=path, callbacks=lambda: [Health()], **SHARDED, **LIMITS)
    assert gates.largest_difference(straight.two[0]["state"], resumed["state"]) == 0


def test_a_checkpoint_is_that_of_one_process(straight: Straight, tmp_path: Path, runs: Any) -> None:
    one, two = (
        torch.load(folder / "5.ckpt", weights_only=True) for folder in (straight.folder / "alone", straight.folder)
    )
    assert {name: one["state_dict"][name].shape for name in one["state_dict"]} == {
        name: two["state_dict"][name].shape for name in two["state_dict"]
    }
    assert gates.largest_difference(one["state_dict"], two["state_dict"]) <= TOLERANCE
    path, health = straight.folder / "5.ckpt", lambda: [Health()]
    goes_on = runs.trained(straight.make, tmp_path, ckpt_path=path, callbacks=health, **LIMITS)
    assert gates.largest_difference(straight.two[0]["state"], goes_on["state"]) <= TOLERANCE


def test_others_load_the_adapters(straight: Straight, base: Path) -> None:
    folder = straight.folder / "run" / "adapters"
    for role, state in (("policy", straight.two[0]["state"]), ("discriminator", straight.two[0]["state"])):
        saved = load_file(folder / role / "adapter_model.safetensors")
        own = {n.removeprefix(f"{role}.model."): t for n, t in state.items() if n.startswith(f"{role}.model.")}
        assert saved.keys() == {name.replace(".default.", ".") for name in own}
        assert all(torch.equal(saved[name.replace(".default.", ".")], tensor) for name, tensor in own.items())
    assert PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "policy")


def test_a_mean_in_the_place_of_the_sum_would_be_noticed(
    base: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = every_phase(base, rounds=0)  # SFT and warm-up: enough to be told apart
    alone = runs.trained(make, tmp_path / "alone", **LIMITS)
    monkeypatch.setattr(processes, "local", torch.clone)  # FSDP2's own result stays
    first, _ = runs.on_two(make, tmp_path, **SHARDED, **LIMITS)
    assert gates.largest_difference(alone["state"], first["state"]) > 100 * TOLERANCE


def nf4(base: Path) -> Callable[[], Any]:
    return rairl(base, gates.shared(base, "nf4"), rounds=2)


def pairwise(base: Path) -> Callable[[], Any]:
    return rairl(base, gates.shared(base), discriminator_loss=Pairwise(), rounds=1)


def whole_weights(base: Path) -> Callable[[], Any]:
    return rairl(base, sft=SFTInitialisation(1, monitor="log_likelihood"), rounds=2)


SLOW = [
    pytest.param(make, devices, marks=pytest.mark.slow) for make, devices in ((nf4, 2), (grpo, 2), (whole_weights, 3))
]


@pytest.mark.parametrize(("make", "devices"), [(pairwise, 3), *SLOW])  # of three, one has no prompt to sample
def test_other_models_algorithms_and_numbers_of_processes(
    base: Path, tmp_path: Path, runs: Any, make: Any, devices: int
) -> None:
    module, settings = make(base), {**LIMITS, "data": data(batch_size=2), "callbacks": lambda: [AdapterCheckpoint()]}
    # In a process of its own: 4-bit kernels that have run once do not survive a fork.
    (one,) = runs.spread(lambda _: runs.trained(module, tmp_path / "alone", **settings), tmp_path, 1)
    first, *others = runs.on_two(module, tmp_path, devices=devices, **SHARDED, **settings)
    agree(one, first)
    saved = module().pair_spec.build(with_discriminator="discriminator.head.scalar.weight" in first["state"])
    saved.load_adapters(tmp_path / "run" / "adapters")
    for role in saved.players:
        own = saved.adapter_state(role)
        assert own and all(torch.equal(first["state"][f"{role}.{name}"], tensor) for name, tensor in own.items())
    assert all(gates.largest_difference(first["state"], other["state"]) == 0 for other in others)


def test_a_second_derivative_is_refused(base: Path, tmp_path: Path, runs: Any) -> None:
    make = rairl(base, gates.shared(base), discriminator_penalty=R1Penalty())

    def refused(rank: int) -> dict[str, bool]:
        with pytest.raises(ConfigError, match="ApproximateR1"):
            runs.trained(make, tmp_path, strategy="fsdp2", devices=2)
        return {"refused": True}

    assert runs.spread(refused, tmp_path) == [{"refused": True}] * 2
