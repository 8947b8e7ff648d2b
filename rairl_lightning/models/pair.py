"""The two players, the reference and the codec, behind one interface whatever the memory layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from rairl_lightning.errors import CheckpointError, ConfigError, ModelError
from rairl_lightning.functional.shards import placed_like, whole
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.exports import load_players, save_players
from rairl_lightning.models.policy import Policy, Reference
from rairl_lightning.models.shapes import PairShape
from rairl_lightning.models.sharding import shard
from rairl_lightning.models.views import assert_shared

Player = Literal["policy", "discriminator"]
Role = Literal["policy", "discriminator", "reference"]
PLAYERS: tuple[Player, ...] = ("policy", "discriminator")
LORA = ".lora_"


class ModelPair(nn.Module):
    """Policy, discriminator and reference.

    Args:
        policy: π_θ.
        discriminator: D_φ; None in a baseline, which learns no reward.
        reference: π_ref.
        codec: of all three.
        adapters_only: True if the players train adapters over frozen weights, False if they train every weight.
        base_fingerprint: identity of the frozen weights the adapters belong to.
    """

    def __init__(
        self,
        policy: Policy,
        discriminator: Discriminator | None,
        reference: Reference,
        codec: TraceCodec,
        *,
        adapters_only: bool,
        base_fingerprint: str,
    ) -> None:
        super().__init__()
        self.policy = policy
        self._discriminator = discriminator
        self.reference = reference
        self.codec = codec
        self.adapters_only = adapters_only
        self.shares_base = False
        self.base_fingerprint = base_fingerprint
        for player in self.players:
            own = {id(parameter) for parameter in self._own(player).values()}
            for parameter in getattr(self, player).parameters():
                parameter.requires_grad_(id(parameter) in own)

    @property
    def players(self) -> tuple[Player, ...]:
        """Who trains: both, or the policy alone."""
        return PLAYERS if self._discriminator is not None else ("policy",)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose weights a checkpoint holds."""
        return (*self.players, "reference")

    @property
    def discriminator(self) -> Discriminator:
        """D_φ.

        Raises:
            ModelError: the pair was built without one.
        """
        if self._discriminator is None:
            raise ModelError(
                "There is no discriminator: this algorithm learns no reward.",
                expected="R-AIRL, which trains one",
                got="a baseline (SFT or GRPO)",
                remedy="set model.class_path: rairl_lightning.module.RAIRL, or leave out what asks for a reward",
            )
        return self._discriminator

    def check_sharing(self) -> None:
        """Check that policy and discriminator still stand on the very same frozen weights, where they should.

        Raises:
            ModelError: something copied the base.
        """
        if self.shares_base and self._discriminator is not None:
            assert_shared(self.policy, self.discriminator.model)

    def trainable_parameters(self, player: Player) -> list[nn.Parameter]:
        """The parameters only this player trains, in a fixed order."""
        return list(self.named_trainable_parameters(player).values())

    def named_trainable_parameters(self, player: Player) -> dict[str, nn.Parameter]:
        """The same by name, as in :meth:`adapter_state`."""
        return self._own(player)

    def adapter_state(self, role: Role) -> dict[str, Tensor]:
        """What a checkpoint must hold of a role: its own weights by name, detached but not copied.

        The reference has none until it is anchored. What lies in shards is gathered on the CPU: every process calls.
        """
        if role == "reference" and not self.reference.anchored:
            return {}
        return {name: whole(parameter.detach()) for name, parameter in self._own(role).items()}

    def load_adapter_state(self, role: Role, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`adapter_state` gave; every key must arrive, and no other.

        Raises:
            CheckpointError: keys are missing or unexpected, or a shape differs. Nothing is loaded then.
        """
        if role == "reference":
            if not state:
                return
            self.reference.prepare_anchor()
        own = self._own(role)
        check_keys(role, {name: parameter.shape for name, parameter in own.items()}, state)
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(placed_like(state[name], parameter))

    def load_roles(self, state: Mapping[str, Tensor]) -> None:
        """Load every role from a checkpoint's ``<role>.<name>``.

        Raises:
            CheckpointError: keys are missing or unexpected, a shape differs, or there is no such role here.
        """
        if strangers := sorted({name.partition(".")[0] for name in state} - set(self.roles)):
            raise CheckpointError(
                "The checkpoint holds weights of a player that this algorithm does not have.",
                expected=", ".join(self.roles),
                got=", ".join(strangers),
                remedy="use the configuration the checkpoint was trained with (config.yaml in its run folder)",
            )
        for role in self.roles:
            prefix = f"{role}."
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            self.load_adapter_state(role, own)

    def anchor_reference(self) -> None:
        """Make the reference a frozen copy of the policy as it is now."""
        self.reference.prepare_anchor()
        self.load_adapter_state("reference", self.adapter_state("policy"))

    def shard(self, mesh: DeviceMesh, *, anchors: bool) -> None:
        """Split all roles over the processes of ``mesh``: :func:`~rairl_lightning.models.sharding.shard`.

        Args:
            mesh: of one dimension; each of its processes has built the same pair.
            anchors: whether the reference will be anchored; it gets its room now.
        """
        if anchors:
            self.reference.make_room()
        shard(self, mesh)

    def save_adapters(self, folder: Path | str) -> None:
        """Write the players in the layout of PEFT (or of transformers if all weights are trained).

        The first process writes; every process calls, since weights in shards are gathered.

        ``policy/`` loads with ``PeftModel.from_pretrained`` (or ``AutoModelForCausalLM``), ``discriminator/``, where
        there is one, holds the decoder's adapter (or weights) and ``head.safetensors``.
        """
        save_players(self, Path(folder))

    def load_adapters(self, folder: Path | str) -> None:
        """Read what :meth:`save_adapters` wrote.

        Raises:
            CheckpointError: a file or key is missing, or does not fit.
        """
        load_players(self, Path(folder))

    def _own(self, role: Role) -> dict[str, nn.Parameter]:
        named = dict(getattr(self, role).named_parameters())
        if not self.adapters_only:
            return named
        return {name: p for name, p in named.items() if LORA in f".{name}" or name.startswith("head.")}


class PairSpec(ABC):
    """A memory layout of the models, named in YAML."""

    @abstractmethod
    def build(self, device: torch.device | str = "cpu", *, with_discriminator: bool = True) -> ModelPair:
        """Load the weights on their final device.

        Args:
            device: where to.
            with_discriminator: False loads policy and reference alone: no second adapter or backbone, and no head.
        """

    def shape(self, *, with_discriminator: bool = True) -> PairShape:
        """How large the pair would be; reads configurations, and no weights.

        Args:
            with_discriminator: as in :meth:`build`.

        Raises:
            ConfigError: this kind of pair does not say.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say how large it is.",
            expected="a pair that has the method shape",
            remedy=f"write {type(self).__name__}.shape beside its build",
        )

    @abstractmethod
    def load_codec(self) -> TraceCodec:
        """Load the tokenizer alone, in a moment, for the data."""


def check_keys(what: str, expected: Mapping[str, torch.Size], found: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: listing what is missing, unexpected or of another shape.
    """
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    shapes = sorted(k for k in expected.keys() & found.keys() if tuple(expected[k]) != tuple(found[k].shape))
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"The saved weights do not fit the {what}.",
            expected=f"{len(expected)} tensors",
            got=f"{_some('missing', missing)}; {_some('unexpected', unexpected)}; {_some('of another shape', shapes)}",
            remedy="use the backbone, LoRA and head settings the weights were trained with",
        )


def _some(label: str, names: list[str]) -> str:
    return f"{len(names)} {label}" + (f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "")
