"""A pair whose blocks lie in shards over the processes (FSDP2), still with one base under all roles.

A block's frozen layers are one unit, which the roles share; what a player trains in it is another. A unit's weights are
whole only while its block computes. Embedding, output layer, final norm and heads stay whole in every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from rairl_lightning.errors import ModelError
from rairl_lightning.functional.shards import is_sharded
from rairl_lightning.models.kernels.lora import plain
from rairl_lightning.models.modes import evaluating

if TYPE_CHECKING:
    from rairl_lightning.models.pair import ModelPair

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference of hidden states before and after, over the largest of them."""


def shard(pair: ModelPair, mesh: DeviceMesh) -> None:
    """Split the blocks of all roles over the processes; every process holds the same pair and calls this.

    Args:
        pair: loaded on its final device.
        mesh: of one dimension.

    Raises:
        ModelError: the backbone has no blocks that can be found, or computes something else afterwards.
    """
    decoders = [pair.policy.decoder, pair.reference.decoder]
    decoders += [pair.discriminator.decoder] if "discriminator" in pair.players else []
    before = [_probe(decoder) for decoder in decoders]
    for decoder in decoders:
        plain(decoder)  # its fused layers read weights that are elsewhere
        _share_layers(decoders[0], decoder)
    pair.policy.units, *_ = [tuple(_shard_blocks(decoder, mesh)) for decoder in decoders]
    pair.policy.roots = (_everything(pair, decoders, mesh),)
    for decoder, expected in zip(decoders, before, strict=True):
        _compare(decoder, expected)


class _Roles(nn.Module):
    """All roles; the units learn of each other in its forward pass."""

    def __init__(self, pair: ModelPair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self) -> None:
        """Nothing."""


def _everything(pair: ModelPair, decoders: list[nn.Module], mesh: DeviceMesh) -> FSDPModule:
    outside = {parameter for parameter in pair.parameters() if not is_sharded(parameter)}
    for decoder in decoders:
        fully_shard(decoder, mesh=mesh, ignored_params=outside)
    roles = _Roles(pair)
    root = fully_shard(roles, mesh=mesh, ignored_params=outside)  # the same module, with a method or two more
    roles()
    return root


def _share_layers(owner: nn.Module, viewer: nn.Module) -> None:
    """Use the owner's layers where a view has others over the same weights: hooks that gather are put on layers."""
    held = {_weights(layer): layer for layer in owner.modules() if _weights(layer)}
    for parent in list(viewer.modules()):
        for name, layer in parent.named_children():
            if (same := held.get(_weights(layer))) is not None:
                setattr(parent, name, same)


def _weights(layer: nn.Module) -> tuple[int, ...]:
    """Identities of a layer's own parameters; empty for a module of modules."""
    return () if any(layer.children()) else tuple(id(parameter) for parameter in layer.parameters(recurse=False))


def _shard_blocks(decoder: nn.Module, mesh: DeviceMesh) -> Iterator[FSDPModule]:
    """Yield one module of every unit that was made."""
    names = set(getattr(decoder, "_no_split_modules", None) or ())  # transformers' name for blocks
    blocks = [module for module in decoder.modules() if type(module).__name__ in names]
    if not blocks:
        raise ModelError(
            f"{type(decoder).__name__} does not say what its blocks are: it cannot be sharded.",
            expected="a transformers model whose _no_split_modules names the class of its blocks",
            got=sorted(names),
            remedy="use --trainer.strategy ddp, where every process holds the models whole",
        )
    for block in blocks:
        frozen = [layer for layer in block.modules() if _weights(layer) and _rests(layer)]
        if frozen:
            yield fully_shard(frozen, mesh=mesh, reshard_after_forward=True)[0]
        if not all(map(is_sharded, block.parameters())):
            yield fully_shard(block, mesh=mesh, reshard_after_forward=True)


def _rests(layer: nn.Module) -> bool:
    """Whether a layer's weights never move and are whole yet."""
    return not any(one.requires_grad or is_sharded(one) for one in layer.parameters(recurse=False))


@torch.no_grad()
def _probe(decoder: nn.Module) -> Tensor:
    """Hidden states of a few tokens."""
    ids = torch.tensor([[1, 2, 3]], device=next(decoder.parameters()).device)
    with evaluating(decoder):
        return decoder(input_ids=ids, use_cache=False).last_hidden_state


def _compare(decoder: nn.Module, expected: Tensor) -> None:
    """Packed 4-bit weights have come back as garbage from the shards of some versions, without an error.

    Raises:
        ModelError: they do here.
    """
    found = _probe(decoder)
    difference = float((found - expected).float().abs().max() / expected.float().abs().max())
    tolerance = TOLERANCES.get(expected.dtype, 0.0)
    if not difference <= tolerance:
        raise ModelError(
            f"{type(decoder).__name__} computes something else once its weights lie in shards.",
            expected=f"the same hidden states, to {tolerance:.0e} of the largest",
            got=f"a difference of {difference:.3g}",
            remedy="use --trainer.strategy ddp, or the versions of torch and bitsandbytes in constraints.txt",
        )
