"""How the weights are held while tokens are drawn: as they are, or as a copy that is read faster.

A copy that has the adapters merged in is made at the start of a call of the sampler and dropped at its end: it is never
stale, and it is gone before the activations of an update need the memory. One of frozen weights alone may be kept.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import halved, onednn
from rairl_lightning.native import library
from rairl_lightning.models.decoding.adapters import SideBySide, base_of, biases, mergeable, merged

Linear = Callable[[Tensor], Tensor]
GIB = 2**30
SAMPLED = 16  # values by which a tensor is known again


@dataclass(frozen=True)
class Product:
    """Layers that read the same input, for planning.

    Attributes:
        inputs: of each.
        outputs: of all of them.
        rank: Σ r of their adapters.
        plain: whether their weights are frozen, and not quantised.
    """

    inputs: int
    outputs: int
    rank: int
    plain: bool

    @property
    def weights(self) -> int:
        """How many."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class CopySize:
    """Bytes that a copy of the weights takes.

    Attributes:
        sampling: while tokens are drawn.
        kept: of those, between calls of the sampler too.
    """

    sampling: int = 0
    kept: int = 0


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

    def copy_size(self, products: Sequence[Product]) -> CopySize:
        """What is held beside the model's own weights, for planning.

        Args:
            products: all of a model that this way suits.
        """
        return CopySize()


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
        return small and onednn.suits(torch.empty(0))

    def copy_size(self, products: Sequence[Product]) -> CopySize:
        """See :class:`HeldWeights`."""
        if not self._allows(sum(product.weights for product in products)):
            return CopySize()
        sizes = [self._size(product) for product in products]
        return CopySize(sum(one.sampling for one in sizes), sum(one.kept for one in sizes))

    def _allows(self, weights: int) -> bool:
        return 4 * weights <= self.max_gib * GIB

    @abstractmethod
    def _size(self, product: Product) -> CopySize:
        """Of one."""


@dataclass(frozen=True)
class Packed(_Copy):
    """Adapters merged, layers that read the same input side by side, in oneDNN's packed layout; float32 throughout.

    Attributes:
        max_gib: most memory that the merged weights may take, in GiB of float32; larger models are decoded in place.
    """

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`."""
        return onednn.PackedLinear(*_side_by_side(linears))

    def _size(self, product: Product) -> CopySize:
        return CopySize(4 * product.weights)


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

    def suits(self, linears: Sequence[Any]) -> bool:
        """As the other copies, where there is a compiler, or was one once."""
        return super().suits(linears) and library() is not None

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`; for prompts."""
        return InPlace().hold(linears)

    def _size(self, product: Product) -> CopySize:
        """Of weights that 16 bits hold if they are plain, which is seen only when they are loaded."""
        return CopySize((2 if product.plain else 4) * product.weights)


@dataclass(frozen=True)
class Halved(Packed):
    """Frozen weights that 16 bits hold without loss in float16, adapters beside them; other layers as :class:`Packed`.

    The products are float32's; their weights are read in half the time. Most published checkpoints are of 16 bits, and
    are not changed by being loaded into float32. Layers with adapters of so high a rank that reading those takes what
    is saved are left to :class:`Packed` too.

    Attributes:
        max_gib: most memory that the weights may take, in GiB of float32; larger models are decoded in place.
        kept: keep the copy from call to call: half the memory of the frozen weights, or more where inputs are no
            multiple of 512. Making it at every call takes about as long as it saves in 100 tokens.
    """

    kept: bool = True

    def hold(self, linears: Sequence[nn.Module]) -> Linear:
        """See :class:`HeldWeights`."""
        adapters = SideBySide.of(linears)
        rank = 0 if adapters is None else len(adapters.up)
        bases = [base_of(linear) for linear in linears]
        worth = _saves(bases[0].in_features, sum(base.out_features for base in bases), rank)
        product = _halved(linears, kept=self.kept) if worth else None
        if product is None:
            return super().hold(linears)
        many = InPlace().hold(linears)

        def held(x: Tensor) -> Tensor:
            if x.numel() >= onednn.MANY_ROWS * x.shape[-1]:
                return many(x)
            return product(x) if adapters is None else adapters.add_to(product(x), x)

        return held

    def _size(self, product: Product) -> CopySize:
        """Of weights that 16 bits hold, which is seen only when they are loaded."""
        if not product.plain or not _saves(product.inputs, product.outputs, product.rank):
            return super()._size(product)
        size = halved.packed_bytes(product.inputs, product.outputs)
        return CopySize(size, size if self.kept else 0)


def _saves(inputs: int, outputs: int, rank: int) -> bool:
    """Whether adapters beside a halved layer are much less to read than what halving saves.

    Where it says so of SmolLM2-135M's layers a step took a fourteenth less at r = 30 and as long at r = 60, the last
    ranks for its narrowest and its widest (two cores with AVX2).
    """
    return 4 * rank * (inputs + outputs) <= inputs * outputs


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

    def _size(self, product: Product) -> CopySize:
        return CopySize(product.weights)


@functools.cache
def _seven_bits() -> bool:
    """Whether inputs must be rounded to 7 bits: without VNNI the sums of two products of 8 bits are cut off."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is None or not supported()


def _side_by_side(linears: Sequence[nn.Module]) -> tuple[Tensor, Tensor | None]:
    return torch.cat([merged(linear) for linear in linears]), biases(linears)


_State = tuple[tuple[Any, ...], ...]
_Answers = weakref.WeakKeyDictionary[nn.Module, tuple[_State, Any]]
_shifts: _Answers = weakref.WeakKeyDictionary()
_copies: _Answers = weakref.WeakKeyDictionary()


def _halved(linears: Sequence[nn.Module], *, kept: bool) -> halved.HalvedLinear | None:
    """Frozen layers side by side in float16; None where that loses something."""
    bases = [base_of(linear) for linear in linears]
    own = [parameter for base in bases for parameter in base.parameters()]
    frozen = all(type(base) is nn.Linear for base in bases) and not any(parameter.requires_grad for parameter in own)
    if not frozen or not halved.available():
        return None
    state = tuple(map(_state, own))
    weights = [base.weight.detach() for base in bases]
    shift = _known(_shifts, bases[0], state, lambda: halved.lossless_shift(weights))
    if shift is None:
        return None

    def copy() -> halved.HalvedLinear:
        return halved.HalvedLinear(weights[0] if len(weights) == 1 else torch.cat(weights), biases(linears), shift)

    return _known(_copies, bases[0], state, copy) if kept else copy()


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """What changes when a tensor is written to: its version, and values, for writes through ``.data`` have none."""
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, len(flat) // SAMPLED)].tolist()
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, *sample


def _known(answers: _Answers, module: nn.Module, state: _State, ask: Callable[[], Any]) -> Any:
    """What was found before, unless the weights have been written to since; dropped with the module."""
    before, answer = answers.get(module, (None, None))
    if before != state:
        answer = ask()
        answers[module] = state, answer
    return answer
