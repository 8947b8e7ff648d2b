"""Several module trees over one set of weights.

A view has modules of its own, so adapters can be put into it without the other trees noticing, and shares every
tensor. Nothing is ever switched: switching adapters under activation checkpointing silently gives wrong gradients.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from rairl_lightning.errors import ModelError

M = TypeVar("M", bound=nn.Module)
ADAPTER_MARK = ".lora_"


def view(module: M) -> M:
    """Copy the modules and share every parameter, buffer and 4-bit state.

    >>> from torch import nn
    >>> layer = nn.Linear(2, 2)
    >>> other = view(layer)
    >>> other is layer, other.weight is layer.weight
    (False, True)
    """
    shared: list[object] = [*module.parameters(), *module.buffers()]
    shared += [state for part in module.modules() if (state := getattr(part, "quant_state", None)) is not None]
    return copy.deepcopy(module, {id(item): item for item in shared})


def assert_shared(owner: nn.Module, viewer: nn.Module) -> None:
    """Check that every base parameter of ``viewer`` is one of ``owner``'s, by identity.

    Raises:
        ModelError: a parameter was copied, by a move to another device for instance.
    """
    own = {id(parameter) for parameter in owner.parameters()}
    apart = [n for n, p in viewer.named_parameters() if ADAPTER_MARK not in f".{n}" and id(p) not in own]
    if apart:
        raise ModelError(
            "The models no longer share one base.",
            expected="the same parameter objects in both",
            got=f"{len(apart)} copied parameters, the first is {apart[0]}",
            remedy="build the pair on its final device",
        )
