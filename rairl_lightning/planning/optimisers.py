"""What an optimiser remembers of each parameter, found out by letting it take one step on a small one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rairl_lightning.models.shapes import TrainedShape

PROBES = ((128, 128), (128, 512))  # above the 4,096 parameters below which bitsandbytes keeps 32 bits
ADAM = 8.0  # bytes a parameter of what is assumed where nothing could be found out


@dataclass(frozen=True)
class OptimiserState:
    """Memory of an optimiser.

    Attributes:
        name: of its class.
        a_parameter: bytes a parameter.
        a_tensor: bytes a tensor, whatever its size.
        measured: False where a step could not be taken, and Adam's is assumed.
    """

    name: str
    a_parameter: float
    a_tensor: float = 0.0
    measured: bool = True

    @property
    def paged(self) -> bool:
        """Whether it may be moved to the host where memory is short."""
        return self.name.startswith("Paged")

    def bytes(self, trained: TrainedShape) -> int:
        """Of a player."""
        return round(self.a_parameter * trained.parameters + self.a_tensor * trained.tensors)


def optimiser_state(factory: Callable[[Iterable[Any]], Optimizer]) -> OptimiserState:
    """Measure the optimiser that ``factory`` makes.

    >>> optimiser_state(lambda parameters: torch.optim.AdamW(parameters, lr=1e-3))
    OptimiserState(name='AdamW', a_parameter=8.0, a_tensor=4.0, measured=True)
    >>> optimiser_state(lambda parameters: torch.optim.SGD(parameters, lr=1e-3)).a_parameter
    0.0
    """
    name = "unknown"
    sizes = []
    for shape in PROBES:
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.ones(shape)
        optimizer = factory([{"params": [parameter]}])
        name = type(optimizer).__name__
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer.step()
        except (RuntimeError, NotImplementedError, TypeError, OSError):  # needs a GPU, or a closure
            return OptimiserState(name, ADAM, measured=False)
        sizes.append(_bytes_of(optimizer.state.values()))
    (small, large), (few, many) = sizes, (torch.Size(shape).numel() for shape in PROBES)
    slope = (large - small) / (many - few)
    return OptimiserState(name, slope, small - slope * few)


def _bytes_of(values: Iterable[Any]) -> int:
    """Bytes of all tensors within, each storage once."""
    storages: dict[int, int] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return sum(storages.values())
