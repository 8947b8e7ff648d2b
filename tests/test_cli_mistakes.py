"""Plausible mistakes with the shipped configurations: each is told expected, got and remedy in a few lines."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from rairl_lightning.cli import guarded
from rairl_lightning.cli_names import argument_names, with_argument
from rairl_lightning.components import Dense, Step


@pytest.fixture
def parsed(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Parse and build what ``rairl fit`` would run from the root of the repository, and run nothing."""
    from rairl_lightning.cli_parser import ROOMS, PlannedCLI
    from rairl_lightning.data.datamodule import DemonstrationDataModule

    for room in ROOMS:
        import_module(f"rairl_lightning.{room}")
    monkeypatch.chdir(root)
    return lambda *args: guarded(lambda: PlannedCLI(DemonstrationDataModule, ["fit", *args]))


QUICKSTART = "--config=configs/quickstart.yaml"
MISTAKES = {
    "a misspelt key": ([QUICKSTART, "--model.rouds=3"], ["did you mean 'model.rounds'?"]),
    "a key at the wrong level": ([QUICKSTART, "--rounds=3"], ["did you mean 'model.rounds'?"]),
    "a misspelt class": (
        [QUICKSTART, "--model.discriminator_loss=Wassertein"],
        ["did you mean 'rairl_lightning.components.Wasserstein'?", "BinaryCrossEntropy"],
    ),
    "a class of another kind": (
        [QUICKSTART, "--model.granularity=ClippedLogit"],
        ["model.granularity does not take a ClippedLogit", "expected: Dense, Interval, Sparse, Step"],
    ),
    "a number for a class": ([QUICKSTART, "--model.discriminator_updates=3"], ["expected: AurocBand, Fixed"]),
    "a name that two packages have": ([QUICKSTART, "--model.policy_optimizer=Adam"], ["'torch.optim.Adam'"]),
    "a key of an optimiser": (
        [QUICKSTART, "--model.policy_optimizer.lrr=1"],
        ["AdamW has no argument 'lrr'", "did you mean 'model.policy_optimizer.lr'?"],
    ),
    "a wrong type": ([QUICKSTART, "--model.rounds=2.5"], ["model.rounds", "expected: int", "got:      2.5"]),
    "a wrong type below an optimiser": (
        [QUICKSTART, "--model.policy_optimizer.lr=abc"],
        ["model.policy_optimizer.lr has", "expected: float", "got:      abc\n"],
    ),
    "a value out of range": ([QUICKSTART, "--model.reward.clip=-1"], ["clip is out of range", "expected: > 0"]),
    "null where nothing is optional": (
        [QUICKSTART, "--model.advantage=null"],
        ["model.advantage may not be null", "GroupNormalised"],
    ),
    "null for a part's key that is not there": (
        [QUICKSTART, "--model.pair.backbone.quant", "null"],
        ["SharedBase has no argument 'backbone.quant'"],
    ),
    "one for a list": ([QUICKSTART, "--data.perturbations=OperatorFlip"], ["--data.perturbations+=OperatorFlip"]),
    "a misspelt overlay": (
        [QUICKSTART, "--config=configs/granularity/dens.yaml"],
        ["did you mean 'configs/granularity/dense.yaml'?"],
    ),
    "a misspelt folder": (
        [QUICKSTART, "--config=configs/grnularity/dense.yaml"],
        ["did you mean 'configs/granularity/dense.yaml'?"],
    ),
    "an overlay by its name": ([QUICKSTART, "--config=dense"], ["did you mean 'configs/granularity/dense.yaml'?"]),
    "no --config": (["configs/quickstart.yaml"], ["did you mean '--config configs/quickstart.yaml'?"]),
    "nothing at all": ([], ["expected: a value for data.source\n"]),
    "R-AIRL's overlay on SFT": (
        ["--config=configs/gsm8k_sft.yaml", "--config=configs/granularity/dense.yaml"],
        ["SFT has no argument 'granularity'", "set model to RAIRL, which has it"],
    ),
    "R-AIRL's overlay on GRPO": (
        ["--config=configs/gsm8k_grpo.yaml", "--config=configs/short/rairl.yaml"],
        ["GRPO has no argument 'discriminator_optimizer.init_args.lr'", "set model to RAIRL, which has it"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(mistake: str, parsed: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    args, told = MISTAKES[mistake]
    assert parsed(*args) == 2
    (said,) = capsys.readouterr().err.split("error: ")[1:]
    assert all(one in said for one in told), said
    assert len(said.splitlines()) <= 5 and max(map(len, said.splitlines())) <= 150, said


def test_a_short_name_is_enough(parsed: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(QUICKSTART, "--model.discriminator_loss", "Wasserstein") == 0
    assert "error" not in capsys.readouterr().err


def test_only_arguments_that_a_class_takes_are_offered() -> None:
    from rairl_lightning.algorithms import SFT
    from rairl_lightning.callbacks import Reranking

    assert {"sft", "sft.epochs"} <= set(argument_names(SFT)) and "rounds" not in argument_names(SFT)
    assert set(argument_names(Reranking)) == {"every_n_rounds", "questions", "samples", "temperature", "seed"}
    assert "lr" in argument_names(torch.optim.AdamW)


def test_other_classes_of_the_kind_are_offered() -> None:
    assert with_argument("every", Dense, [Dense, Step, int]) == []
    from rairl_lightning.components import Interval

    assert with_argument("every", Dense, [Dense, Step, Interval, int]) == ["Interval"]
