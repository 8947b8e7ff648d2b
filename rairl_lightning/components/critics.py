"""From what the discriminator's head emits to its logit, and to what the policy is paid."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rairl_lightning.components.segment_logprobs import LogprobTerm, MeanLogprob, NoLogprob
from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.shaping import segment_shaping


class ReadOut(ABC):
    """Which part of a two-head critic the policy is paid."""

    @abstractmethod
    def __call__(self, g_NT: Tensor, shaping_NT: Tensor) -> Tensor:
        """``[N, T]`` on the grid; not yet tempered or clipped, which is the :class:`Reward`'s."""


@dataclass(frozen=True)
class ReadG(ReadOut):
    """Pay ``g``, the reward freed of shaping."""

    def __call__(self, g_NT: Tensor, shaping_NT: Tensor) -> Tensor:
        """``[N, T]`` g."""
        return g_NT


@dataclass(frozen=True)
class ReadF(ReadOut):
    """Pay ``f = g + shaping``, as AIRL does while it trains."""

    def __call__(self, g_NT: Tensor, shaping_NT: Tensor) -> Tensor:
        """``[N, T]`` f."""
        return g_NT + shaping_NT


@dataclass(frozen=True)
class ReadMixed(ReadOut):
    """Pay ``g + λ · shaping``."""

    shaping_weight: float = 0.5
    """λ in [0, 1]: 0 pays g, 1 pays f."""

    def __post_init__(self) -> None:
        check_number("shaping_weight", self.shaping_weight, at_least=0, at_most=1)

    def __call__(self, g_NT: Tensor, shaping_NT: Tensor) -> Tensor:
        """``[N, T]`` mixture."""
        return g_NT + self.shaping_weight * shaping_NT


class CriticTerms(NamedTuple):
    """What a critic's logit is made of; meaningful on the grid, ``[N, T]`` each.

    Attributes:
        g: the reward head.
        shaping: ``γ h(s_{k+1}) - h(s_k)``.
        logprob: the sampling policy's, detached.
    """

    g: Tensor
    shaping: Tensor
    logprob: Tensor


class ParameterGroup(NamedTuple):
    """Parameters with settings of their own.

    Attributes:
        parameters: in a fixed order.
        lr_factor: on the player's learning rate, at every update.
        options: of the optimiser's group, such as ``weight_decay``.
    """

    parameters: list[nn.Parameter]
    lr_factor: float
    options: dict[str, float]


class Critic(ABC):
    """How the head's outputs become the discriminator's logit and the policy's pay."""

    @property
    @abstractmethod
    def needs_logprobs(self) -> bool:
        """Whether :meth:`logits` reads log-probabilities; :meth:`pay` never does."""

    @abstractmethod
    def terms(
        self, outputs: Tensor, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor
    ) -> CriticTerms:
        """Take the logit apart.

        Args:
            outputs: of the head, ``[N, T]`` or ``[N, T, 2]``, with gradient.
            logprobs_NT: ``[N, T]`` under the policy that sampled; may be ``None`` where they are not needed.
            grid_NT: ``[N, T]`` bool.
            completion_mask_NT: ``[N, T]`` bool.
        """

    @abstractmethod
    def pay(self, outputs: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """What the policy is paid before tempering and clipping: ``[N, T]`` on the grid. It needs no policy."""

    @abstractmethod
    def parameter_groups(self, named: Mapping[str, nn.Parameter]) -> list[ParameterGroup]:
        """Sort the discriminator's trainable parameters, given by name, into groups for its optimiser."""

    def logits(
        self, outputs: Tensor, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor
    ) -> Tensor:
        """``f_k - log π_old(segment k)`` on the grid, ``[N, T]``, high for experts. Arguments as :meth:`terms`."""
        terms = self.terms(outputs, logprobs_NT, grid_NT, completion_mask_NT)
        return terms.g + terms.shaping - terms.logprob


@dataclass(frozen=True)
class SingleHead(Critic):
    """One scalar a position, which is both logit and pay (the paper's)."""

    logprob: LogprobTerm = field(default=NoLogprob())
    """What the policy's log-probability takes from the logit, not from the pay: NoLogprob, MeanLogprob, …."""

    head_lr_factor: float = 1.0
    """Learning rate of the head as a multiple of the discriminator's, > 0. A new head on a trained backbone may want
    a greater one: a rate that teaches the head in time can destroy what the backbone knows."""

    def __post_init__(self) -> None:
        check_number("head_lr_factor", self.head_lr_factor, above=0)

    @property
    def needs_logprobs(self) -> bool:
        """If the term does."""
        return self.logprob.needs_logprobs

    def terms(
        self, outputs: Tensor, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor
    ) -> CriticTerms:
        """``g`` and, where asked for, the log-probability."""
        g_NT = _channels(outputs, ())
        return CriticTerms(g_NT, torch.zeros_like(g_NT), self.logprob(logprobs_NT, grid_NT, completion_mask_NT))

    def pay(self, outputs: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` outputs."""
        return _channels(outputs, ())

    def parameter_groups(self, named: Mapping[str, nn.Parameter]) -> list[ParameterGroup]:
        """The backbone's parameters, and the head's."""
        return _backbone_and_head(named, self.head_lr_factor)


@dataclass(frozen=True)
class TwoHead(Critic):
    """AIRL: ``logit_k = g_k + γ h(s_{k+1}) - h(s_k) - log π_old(segment k)``, ``h = 0`` at the terminal state.

    The head emits ``[N, T, 2]``: g, then h.
    """

    gamma: float = 1.0
    """γ in [0, 1], a segment; 1 leaves the sum of a trace's rewards as it is, up to ``h`` of its prompt."""

    logprob: LogprobTerm = field(default=MeanLogprob())
    """The policy's share of the logit: MeanLogprob, SummedLogprob or NoLogprob."""

    shaping_clip: float | None = None
    """Largest size of the shaping term, > 0; null means none."""

    read_out: ReadOut = ReadG()
    """What the policy is paid: ReadG, ReadF or ReadMixed."""

    head_lr_factor: float = 1.0
    """Learning rate of the heads as a multiple of the discriminator's, > 0; see :class:`SingleHead`."""

    potential_lr_factor: float = 0.5
    """Learning rate of ``h`` as a multiple of the heads', >= 0 (the authors': 0.5)."""

    potential_weight_decay: float = 1e-4
    """Weight decay of ``h`` in the place of the optimiser's own, >= 0 (the authors': L2 of 1e-4); under AdamW it is
    decoupled: a step shrinks ``h`` by its learning rate times this."""

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, at_least=0, at_most=1)
        check_number("head_lr_factor", self.head_lr_factor, above=0)
        check_number("potential_lr_factor", self.potential_lr_factor, at_least=0)
        check_number("potential_weight_decay", self.potential_weight_decay, at_least=0)
        if self.shaping_clip is not None:
            check_number("shaping_clip", self.shaping_clip, above=0)

    @property
    def needs_logprobs(self) -> bool:
        """If the term does."""
        return self.logprob.needs_logprobs

    def terms(
        self, outputs: Tensor, logprobs_NT: Tensor | None, grid_NT: Tensor, completion_mask_NT: Tensor
    ) -> CriticTerms:
        """``g``, shaping and log-probability."""
        g_NT, shaping_NT = self._heads(outputs, grid_NT, completion_mask_NT)
        return CriticTerms(g_NT, shaping_NT, self.logprob(logprobs_NT, grid_NT, completion_mask_NT))

    def pay(self, outputs: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
        """``[N, T]`` g, f or a mixture, as ``read_out`` says."""
        return self.read_out(*self._heads(outputs, grid_NT, completion_mask_NT))

    def parameter_groups(self, named: Mapping[str, nn.Parameter]) -> list[ParameterGroup]:
        """The parameters of ``h``, whose names hold ``potential``, apart from the backbone's and the other head's.

        Raises:
            ModelError: there are none.
        """
        own = {name for name in named if "potential" in name.split(".")}
        if not own:
            raise ModelError(
                "The two-head critic has no potential to train.",
                expected="parameters with 'potential' in their names",
                got=f"{len(named)} parameters without",
                remedy="choose a head that emits g and h",
            )
        others = {name: parameter for name, parameter in named.items() if name not in own}
        h = [parameter for name, parameter in named.items() if name in own]
        options = {"weight_decay": self.potential_weight_decay}
        potential = ParameterGroup(h, self.head_lr_factor * self.potential_lr_factor, options)
        return [*_backbone_and_head(others, self.head_lr_factor), potential]

    def _heads(self, outputs: Tensor, grid_NT: Tensor, completion_mask_NT: Tensor) -> tuple[Tensor, Tensor]:
        g_NT, h_NT = _channels(outputs, (2,)).unbind(dim=-1)
        shaping_NT = segment_shaping(h_NT, grid_NT, completion_mask_NT, self.gamma)
        if self.shaping_clip is not None:
            shaping_NT = shaping_NT.clamp(-self.shaping_clip, self.shaping_clip)
        return g_NT, shaping_NT


def _backbone_and_head(named: Mapping[str, nn.Parameter], head_lr_factor: float) -> list[ParameterGroup]:
    if head_lr_factor == 1:
        return [ParameterGroup(list(named.values()), 1.0, {})]
    head = {name: parameter for name, parameter in named.items() if name.startswith("head.")}
    backbone = [parameter for name, parameter in named.items() if name not in head]
    return [ParameterGroup(backbone, 1.0, {}), ParameterGroup(list(head.values()), head_lr_factor, {})]


def _channels(outputs: Tensor, wanted: tuple[int, ...]) -> Tensor:
    if outputs.shape[2:] != torch.Size(wanted):
        raise ConfigError(
            "The critic and the discriminator's head do not fit.",
            expected=f"outputs of shape {['N', 'T', *wanted]}",
            got=list(outputs.shape),
            remedy="SingleHead reads a head with one output, TwoHead one with two (g and h)",
        )
    return outputs
