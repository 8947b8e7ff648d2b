"""Tensors of which each process holds a part (FSDP2's), beside ordinary ones, of which each holds the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it alone."""
    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """The part that lies here, which shares its memory; the whole of an ordinary tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts together, on the CPU; an ordinary tensor as it is.

    Collective for a tensor in shards: every process calls it.
    """
    return tensor.full_tensor().detach().cpu() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same in every process, in shards as another lies; as it is where that one is whole."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    there = tensor.to(like.device)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all of them together, float32; collective if any lies in shards."""
    whole_ones, sharded = list[Tensor](), list[Tensor]()
    for tensor in tensors:
        (sharded if is_sharded(tensor) else whole_ones).append(local(tensor).float().square().sum())
    squares = torch.stack(whole_ones).sum() if whole_ones else torch.zeros(())
    if sharded:
        parts = torch.stack(sharded).sum()
        dist.all_reduce(parts)
        squares = squares.to(parts.device) + parts
    return squares.sqrt()


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale the gradients down to a norm of at most ``limit``, in place.

    Returns:
        The norm before.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(map(is_sharded, parameters)):
        return float(nn.utils.clip_grad_norm_(parameters, limit))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = norm(gradients)
    for gradient in gradients:
        local(gradient).mul_((limit / (total + 1e-6)).clamp(max=1.0))
    return float(total)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """Its ``state_dict`` with whole tensors: what one process would have; collective if any lies in shards."""
    found = optimizer.state_dict()
    state = {index: {k: whole(v) if isinstance(v, Tensor) else v for k, v in s.items()} for index, s in _of(found)}
    return {**found, "state": state}


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The inverse of :func:`optimizer_state`: what is of a parameter's shape comes to lie as the parameter does."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def placed(value: Any, parameter: Tensor) -> Any:
        fits = isinstance(value, Tensor) and value.shape == parameter.shape
        return placed_like(value, parameter) if fits else value

    found = {index: {k: placed(v, parameters[index]) for k, v in s.items()} for index, s in _of(state)}
    optimizer.load_state_dict({**state, "state": found})


def _of(state: Mapping[str, Any]) -> Iterable[tuple[int, Mapping[str, Any]]]:
    return state["state"].items()
