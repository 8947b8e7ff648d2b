"""What optimisers remember, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import nn

from rairl_lightning.models.shapes import TrainedShape
from rairl_lightning.planning.advice import EIGHT_BIT
from rairl_lightning.planning.optimisers import _bytes_of, optimiser_state

SHAPES = ((96, 64), (64, 96), (256, 128))
Factory = Callable[[Iterable[Any]], torch.optim.Optimizer]
FACTORIES: dict[str, Factory] = {
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    "AMSGrad": lambda groups: torch.optim.AdamW(groups, lr=1e-3, amsgrad=True),
    "SGD": lambda groups: torch.optim.SGD(groups, lr=1e-3),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=1e-3, momentum=0.9),
    "8 bits": lambda groups: bitsandbytes.optim.AdamW8bit(groups, lr=1e-3),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_state_is_what_training_would_hold(name: str) -> None:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = FACTORIES[name]([{"params": parameters}])
    optimizer.step()
    held = sum(_bytes_of([state]) for state in optimizer.state.values())
    count = sum(parameter.numel() for parameter in parameters)
    assert optimiser_state(FACTORIES[name]).bytes(TrainedShape(count, len(SHAPES), 4 * count)) == held


def test_hand_worked() -> None:
    million = TrainedShape(10**6, 3, 4 * 10**6)
    assert optimiser_state(FACTORIES["AdamW"]).bytes(million) == 8 * 10**6 + 3 * 4
    assert optimiser_state(FACTORIES["SGD"]).bytes(million) == 0
    found = optimiser_state(FACTORIES["8 bits"])
    assert (found.a_parameter, found.a_tensor) == (EIGHT_BIT.a_parameter, EIGHT_BIT.a_tensor)


def test_one_that_takes_no_step_is_said_to_be_assumed() -> None:
    found = optimiser_state(lambda groups: torch.optim.LBFGS(next(iter(groups))["params"]))  # needs a closure
    assert (found.name, found.measured, found.a_parameter) == ("LBFGS", False, 8.0)
