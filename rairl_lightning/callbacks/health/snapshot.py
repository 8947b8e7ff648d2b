"""Both players as they were at the end of a round, in CPU memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from rairl_lightning.algorithms.players import PlayersModule
from rairl_lightning.functional.shards import load_optimizer_state, optimizer_state
from rairl_lightning.models.pair import Player as Role

RESTING = "sft"  # its optimiser is done when the rounds begin


@dataclass(frozen=True)
class Snapshot:
    """Weights and optimiser states; plain values and tensors.

    Attributes:
        round: finished rounds when it was taken.
        batches: training steps when it was taken or last put back: the replay holds nothing of other players before.
        heldout_auroc: of this discriminator.
        weights: adapters and heads (all weights under full fine-tuning), by role and name.
        moments: the optimisers' states, by player.
        watches: what the signs knew then.
    """

    round: int
    batches: int
    heldout_auroc: float | None
    weights: dict[str, dict[str, Tensor]]
    moments: dict[str, dict[Any, Any]]
    watches: list[dict[str, Any]]

    @classmethod
    def take(cls, module: PlayersModule, watches: list[dict[str, Any]]) -> Snapshot:
        """Copy what moves in the rounds."""
        clock, names = module.clock, [name for name in module.players if name != RESTING]
        return cls(
            clock.round,
            clock.batches,
            clock.heldout_auroc,
            {role: copied(module.models.adapter_state(role)) for role in map(_role, names)},
            {name: copied(optimizer_state(module.players[name].optimizer)["state"]) for name in names},
            watches,
        )

    def restore(self, module: PlayersModule) -> None:
        """Put weights and moments back, bit for bit.

        The learning rates and the schedules stay where they are: they follow the clock, which goes on.
        """
        for role in map(_role, self.moments):
            module.models.load_adapter_state(role, self.weights[role])
        for name, moments in self.moments.items():
            optimizer = module.players[name].optimizer
            # a copy, since load_state_dict keeps tensors that need no cast, and the next step would write into them
            load_optimizer_state(optimizer, {**optimizer.state_dict(), "state": copied(moments)})
        module.clock.heldout_auroc = self.heldout_auroc

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return asdict(replace(self, weights={}, moments={})) | {"weights": self.weights, "moments": self.moments}


def copied(value: Any) -> Any:
    """A copy on the CPU of a tensor, or of a mapping of them."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return value


def _role(player: str) -> Role:
    return "discriminator" if player == "discriminator" else "policy"
