"""Optimisers and schedules of the players, stepped by us alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.optimisation import OptimizerFactory, Player, Update
from rairl_lightning.algorithms.process_requirements import without_reducer
from rairl_lightning.components.critics import ParameterGroup
from rairl_lightning.components.schedules import Schedule
from rairl_lightning.errors import ConfigError
from rairl_lightning.models.pair import PairSpec
from rairl_lightning.rollouts.base import Sampler


class PlayersModule(PairModule):
    """A pair whose players each have an optimiser, a schedule and a gradient clip.

    Args:
        pair: how policy, discriminator and reference are made.
        sampler: draws completions from the policy.
        factories: optimiser and schedule by name; ``discriminator`` moves the discriminator, all others the policy.
        gradient_clip: largest gradient norm of any player, > 0.
        max_tokens_per_microbatch: tokens that go through a model at once, >= 1.
        seed: of sampling and of drawing discriminator batches.
    """

    def __init__(
        self,
        pair: PairSpec,
        sampler: Sampler,
        factories: Mapping[str, tuple[OptimizerFactory, Schedule]],
        gradient_clip: float,
        max_tokens_per_microbatch: int,
        seed: int,
    ) -> None:
        super().__init__(pair, sampler, max_tokens_per_microbatch, seed)
        if gradient_clip <= 0:
            raise ConfigError("Nothing may move.", expected="gradient_clip > 0", got=gradient_clip)
        self.factories, self.gradient_clip = dict(factories), gradient_clip
        self.players: dict[str, Player] = {}
        self.skip_nonfinite, self.skipped_updates = False, 0  # set by who can mend it: the callback Health

    def planned_updates(self) -> dict[str, int]:
        """Updates of each player in the whole run, which its schedule spans."""
        raise NotImplementedError

    def parameter_groups(self, name: str) -> list[ParameterGroup]:
        """What a player moves, and what of it has settings of its own."""
        moved = self.models.trainable_parameters("discriminator" if name == "discriminator" else "policy")
        return [ParameterGroup(moved, 1.0, {})]

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """One optimiser and one schedule a player."""
        updates = self.planned_updates()
        for name, (factory, schedule) in self.factories.items():
            groups = self.parameter_groups(name)
            self.players[name] = Player.build(name, groups, factory, schedule, updates[name], self.gradient_clip)
        return [p.optimizer for p in self.players.values()], [p.scheduler for p in self.players.values()]

    def update_player(self, name: str, losses: Iterable[Tensor], suspects: Callable[[], str]) -> Update:
        """One update of a player on the sum of ``losses``, one scalar a micro-batch.

        Args:
            name: of the player.
            losses: made lazily.
            suspects: says which traces are behind it; called where loss or gradient is not finite.
        """
        update = self.players[name].update(losses, self._backward, lambda: self._step(name), self.skip_nonfinite)
        if update.skipped:
            self._note_skip(name, f"loss {update.loss}, gradient norm {update.gradient_norm}", suspects())
        return update

    def skip_update(self, name: str, why: str) -> None:
        """Count an update that is not even tried.

        Raises:
            TrainingError: it is one too many.
        """
        self.players[name].skip(why, self.skip_nonfinite)
        self._note_skip(name, "not tried", why)

    def _note_skip(self, name: str, what: str, why: str) -> None:
        self.skipped_updates += 1
        say = rank_zero_info if self.skip_nonfinite else rank_zero_warn  # who mends it warns
        where = f"{self.clock.phase}, step {self.clock.batches}"
        say(f"{where}: an update of the {name} was skipped ({what}); {why}.")

    def _backward(self, loss: Tensor) -> None:
        with without_reducer(self.trainer):
            self.manual_backward(loss)

    def _step(self, name: str) -> None:
        """Take the step; only the policy's are counted in Lightning's ``global_step``."""
        if name == "discriminator":
            self.trainer.strategy.optimizer_step(self.players[name].optimizer, lambda: None, model=self)
        else:
            found = self.optimizers()  # Lightning's wrapper alone, not in a list, where there is but one
            optimizers = cast(list[LightningOptimizer], found if isinstance(found, list) else [found])
            optimizers[list(self.players).index(name)].step()
