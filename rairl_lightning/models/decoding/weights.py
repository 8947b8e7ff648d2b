"""How the weights are held while tokens are drawn: as they are, or as a copy that is read faster.

A copy is made at the start of a call of the sampler and dropped at its end: it is never stale, and it is gone before
the activations of an update need the memory.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import onednn
from rairl_lightning.models.decoding.adapters import biases, mergeable, merged
from rairl_lightning.native import decoding
from rairl_lightning.native.tensors import plain

Linear = Callable[[Tensor], Tensor]
GIB = 2**30


@dataclass(frozen=True)
class Product:
    """Layers that read the same input, for planning.

    Attributes:
        inputs: of each.
        outputs: of all of them.
    """

    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """How many."""
        return self.inputs * self.outputs


class HeldWeights(ABC):
    """A way to hold the weights while decoding.

    Attributes:
        native: whether steps are compiled code's, which holds its own copy; prompts are read with what ``hold`` gives.
    """

    native: ClassVar[bool] = False

    @property
    def instead(self) -> HeldWeights:
        """What is tried next where this way is not open."""
        return InPlace()

    @abstractmethod
    def suits(self, linears: Sequence[nn.Module]) -> bool:
        """Whether this way is open for these layers, all of a model's."""

    @abstractmethod
    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """One function for layers that read the same input; it returns their outputs side by side.

        Args:
            linears: linear layers, with or without adapters.

        Returns:
            ``[N, in]`` to ``[N, Σ out]``.
        """

    def copy_size(self, products: Sequence[Product]) -> int:
        """Bytes held beside the model's own weights while tokens are drawn, for planning.

        Args:
            products: all of a model that this way suits.
        """
        return 0


@dataclass(frozen=True)
class InPlace(HeldWeights):
    """The layers themselves, adapters beside the frozen weights: no copy at all."""

    def suits(self, linears: Sequence[nn.Module]) -> bool:
        """Always."""
        return True

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`."""
        if len(linears) == 1:
            return linears[0]
        return lambda x: torch.cat([linear(x) for linear in linears], dim=-1)


@dataclass(frozen=True)
class _Copy(HeldWeights):
    """Shared by the ways that copy.

    Attributes:
        max_gib: most memory that the merged weights may take, in GiB of float32; larger models are decoded in place.
    """

    max_gib: float = 4.0

    def __post_init__(self) -> None:
        if self.max_gib <= 0:
            raise ConfigError("There is no room for a copy.", expected="max_gib > 0", got=self.max_gib)

    def suits(self, linears: Sequence[Any]) -> bool:
        """On a CPU in float32, where every layer can be merged and the copy is small enough."""
        if not all(mergeable(linear) for linear in linears):
            return False
        small = self._allows(sum(linear.in_features * linear.out_features for linear in linears))
        return small and plain(torch.empty(0)) and self._available()

    def _available(self) -> bool:
        return onednn.available()

    def copy_size(self, products: Sequence[Product]) -> int:
        """See :class:`HeldWeights`."""
        fits = self._allows(sum(product.weights for product in products))
        return sum(self._size(product) for product in products) if fits else 0

    def _allows(self, weights: int) -> bool:
        return 4 * weights <= self.max_gib * GIB

    @abstractmethod
    def _size(self, product: Product) -> int:
        """Bytes of one."""


@dataclass(frozen=True)
class Packed(_Copy):
    """Adapters merged, layers that read the same input side by side, in oneDNN's packed layout; float32 throughout.

    Attributes:
        max_gib: most memory that the merged weights may take, in GiB of float32; larger models are decoded in place.
    """

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`."""
        return onednn.PackedLinear(*_side_by_side(linears))

    def _size(self, product: Product) -> int:
        return 4 * product.weights


@dataclass(frozen=True)
class Native(_Copy):
    """Every step one call of compiled code (:mod:`rairl_lightning.native`), ``Packed`` where there is no C++ compiler.

    Weights that bfloat16 or float16 hold without loss, as those of most published checkpoints, are held so and read in
    half the time; they are float32 again in the registers, and all sums are float32's. Adapters stay beside them.
    Prompts are read with the layers themselves.

    Attributes:
        max_gib: most memory that the weights may take, in GiB of float32; larger models are decoded in place.
    """

    native: ClassVar[bool] = True

    @property
    def instead(self) -> HeldWeights:
        """See :class:`HeldWeights`."""
        return Packed(self.max_gib)

    def _available(self) -> bool:
        return decoding.available()

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`; for prompts."""
        return InPlace().hold(linears)

    def _size(self, product: Product) -> int:
        """At most: half of it for weights that 16 bits hold, which is seen only when they are loaded."""
        return 4 * product.weights


@dataclass(frozen=True)
class DynamicInt8(_Copy):
    """Adapters merged, weights rounded to 8 bits for each output, inputs rounded on the way: fast, and not the policy.

    The sampler's log-probabilities are those of the rounded model, which the tokens are drawn from; train with a
    ``sampler_correction``, and watch the logged gap.

    Attributes:
        max_gib: most memory that the merged weights may take, in GiB of float32; larger models are decoded in place.
    """

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`."""
        weight, bias = _side_by_side(linears)
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        with warnings.catch_warnings():
            # torch will drop these tensors; its replacement has no counterpart of linear_dynamic for a CPU yet.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, bias)
        return lambda x: torch.ops.quantized.linear_dynamic(x, packed, _seven_bits())

    def _size(self, product: Product) -> int:
        return product.weights


@functools.cache
def _seven_bits() -> bool:
    """Whether inputs must be rounded to 7 bits: without VNNI the sums of two products of 8 bits are cut off."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is None or not supported()


def _side_by_side(linears: Sequence[nn.Module]) -> tuple[Tensor, Tensor | None]:
    return torch.cat([merged(linear) for linear in linears]), biases(linears)
