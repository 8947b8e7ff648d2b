"""Notices a collapse early, goes back to the last healthy players, and goes on more slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.health.kinds import Level, Sign
from rairl_lightning.callbacks.health.signs import SKIPPED_UPDATES, default_signs
from rairl_lightning.callbacks.health.snapshot import Snapshot
from rairl_lightning.callbacks.health.verdict import Collapse, Outcome, TrainingVerdict
from rairl_lightning.callbacks.health.watch import Watch
from rairl_lightning.callbacks.interrupt import InterruptCheckpoint
from rairl_lightning.callbacks.onlooker import Behind
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.run_folder import HEALTH
from rairl_lightning.evaluation.summary import write_summary


class Health(Callback):
    """Watches the collapse signs; on collapse restores both players and lowers the policy's learning rate.

    Not in the paper, whose runs do collapse. A sign that looks bad for its patience warns. A collapse puts adapters,
    heads and optimiser states of both players back to the last healthy snapshot, drops the replayed traces of the
    rounds since, multiplies the policy's learning rate (for good: schedules and checkpoints keep it) and goes on;
    clock, schedules and data go on too. In the last round, which nothing can confirm, one reading at the collapse
    level is enough. After ``max_restorations`` the next collapse restores and stops: the healthy pair is what the
    ordinary checkpointing saves, the run ends in the ordinary way (exit code 0), and ``verdict`` says what happened.

    In the warm-up the policy rests, and its rollouts give the signs their baseline. A snapshot taken before the
    policy first moves is healthy by definition; later ones once ``confirm`` healthy rounds have followed. At most two
    are held, each the size of both players' trainable weights and moments (three times their weights with Adam).
    Logs ``health/level`` (0 healthy, 1 warning, 2 collapse), ``health/signs`` (that warn), ``health/restorations``,
    ``health/policy_rate_factor`` and ``health/stopped``; writes warnings and collapses to ``health.json``.

    Args:
        signs: what to watch; null takes all of ``callbacks.health.signs``. A sign whose metric is not logged rests.
        window: rounds in a window of the baseline, >= 1.
        every_n_rounds: rounds between two snapshots, >= 1.
        confirm: healthy rounds that must follow a snapshot, >= 1.
        policy_rate_factor: what a restoration multiplies the policy's learning rate by, in (0, 1].
        max_restorations: collapses after which it goes on, >= 0; the next one stops.
        save_snapshots: whether checkpoints hold the snapshots, so that a resumed run is the run that was not stopped;
            false makes checkpoints smaller, and a resumed run starts from a snapshot of what it resumes.
    """

    def __init__(
        self,
        signs: list[Sign] | None = None,
        window: int = 8,
        every_n_rounds: int = 10,
        confirm: int = 5,
        policy_rate_factor: float = 0.3,
        max_restorations: int = 3,
        save_snapshots: bool = True,
    ) -> None:
        if min(window, every_n_rounds, confirm) < 1 or max_restorations < 0 or not 0 < policy_rate_factor <= 1:
            raise ConfigError(
                "Health cannot run with these settings.",
                expected="window, every_n_rounds, confirm >= 1; max_restorations >= 0; policy_rate_factor in (0, 1]",
                got=f"{window}, {every_n_rounds}, {confirm}; {max_restorations}; {policy_rate_factor}",
            )
        self.watches = [Watch(sign, window) for sign in (default_signs() if signs is None else signs)]
        self.every_n_rounds, self.confirm = every_n_rounds, confirm
        self.policy_rate_factor, self.max_restorations = policy_rate_factor, max_restorations
        self.save_snapshots = save_snapshots
        self.healthy: Snapshot | None = None
        self.candidate: Snapshot | None = None
        self.collapses: list[Collapse] = []
        self.verdict: TrainingVerdict | None = None
        self.warnings: list[dict[str, Any]] = []
        self._factor = 1.0
        self._phase: Phase | None = None

    # Hooks -----------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stand behind what measures and records a round, and before what tells of it and saves it."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        behind = [one for one in callbacks if isinstance(one, Behind | Checkpoint | InterruptCheckpoint)]
        others = [one for one in callbacks if one is not self and one not in behind]
        trainer.callbacks = [*others, self, *behind]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was stopped for good is not continued."""
        if len(self.collapses) > self.max_restorations:
            trainer.should_stop = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before the policy first moves, it is healthy; from then on an update that is not finite can be mended."""
        if not isinstance(pl_module, RoundsModule):
            return
        self._phase = pl_module.clock.phase
        pl_module.skip_nonfinite, pl_module.skipped_updates = self._phase is Phase.ADVERSARIAL, 0
        if self._phase is Phase.ADVERSARIAL and self.healthy is None:
            self.healthy = self._snapshot(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Learn in the warm-up, judge in the rounds."""
        if not isinstance(pl_module, RoundsModule) or self._phase is None or self._phase is Phase.SFT:
            return
        metrics = self._metrics(trainer, pl_module)
        if self._phase is Phase.WARMUP:
            for watch in self.watches:
                watch.learn(metrics)
            return
        warned = [watch for watch in self.watches if watch.observe(metrics) and watch.just_warned]
        for watch in warned:
            sign, advice = watch.describe(), watch.sign.advice
            rank_zero_warn(f"Health, round {pl_module.clock.round}: {sign}. Try: {advice}.")
            self.warnings.append({"round": pl_module.clock.round, "sign": sign, "advice": advice})
        collapsed = [watch for watch in self.watches if watch.collapsed(last=trainer.should_stop)]
        level = Level.COLLAPSE if collapsed else max((one.level for one in self.watches), default=Level.HEALTHY)
        signs = len([watch for watch in self.watches if watch.level is not Level.HEALTHY])
        if collapsed and self.healthy is not None:
            self._collapse(trainer, pl_module, self.healthy, collapsed)
        else:
            self._keep(pl_module)
        if warned or collapsed:
            self._write(trainer, pl_module.clock.round)
        self._log(trainer, pl_module, level, signs)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how it went."""
        if isinstance(pl_module, RoundsModule):
            pl_module.skip_nonfinite = False
            self.verdict = self._judgement(pl_module.clock.round)
            rank_zero_info(str(self.verdict))
            self._write(trainer, pl_module.clock.round)

    # What it does ----------------------------------------------------------------------------------------------

    def _metrics(self, trainer: Trainer, module: RoundsModule) -> dict[str, float]:
        watched = {watch.sign.metric for watch in self.watches} | {watch.sign.excuse for watch in self.watches}
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name in watched}
        return {**logged, SKIPPED_UPDATES: float(module.skipped_updates)}

    def _snapshot(self, module: RoundsModule) -> Snapshot:
        return Snapshot.take(module, [watch.state_dict() for watch in self.watches])

    def _keep(self, module: RoundsModule) -> None:
        """Take, confirm or drop a snapshot."""
        if any(watch.suspicious for watch in self.watches):
            self.candidate = None
            return
        round_ = module.clock.round
        if self.candidate is not None and round_ - self.candidate.round >= self.confirm:
            self.healthy, self.candidate = self.candidate, None
        if self.candidate is None and self.healthy is not None and round_ - self.healthy.round >= self.every_n_rounds:
            self.candidate = self._snapshot(module)

    def _collapse(self, trainer: Trainer, module: RoundsModule, healthy: Snapshot, collapsed: Sequence[Watch]) -> None:
        """Go back, and on; or stop."""
        signs = "; ".join(watch.describe() for watch in collapsed)
        advice = "; ".join(dict.fromkeys(watch.sign.advice for watch in collapsed))
        self.collapses.append(Collapse(module.clock.round, healthy.round, signs))
        self._restore(trainer, module, healthy)
        what = f"Health, collapse {len(self.collapses)} at {self.collapses[-1]}. "
        if len(self.collapses) > self.max_restorations:
            trainer.should_stop = True
            rank_zero_warn(f"{what}It had been restored {self.max_restorations} times: training stops. Try: {advice}.")
            return
        self._factor *= self.policy_rate_factor
        policy = module.players["policy"]
        policy.scale_learning_rate(self.policy_rate_factor)
        rate = policy.optimizer.param_groups[0]["lr"]
        rank_zero_warn(
            f"{what}Adapters, heads and optimisers of both players are restored, the policy's learning rate is now "
            f"{rate:.3g} (x {self.policy_rate_factor:g}). Try: {advice}."
        )

    def _restore(self, trainer: Trainer, module: RoundsModule, snapshot: Snapshot) -> None:
        snapshot.restore(module)
        self.healthy, self.candidate = replace(snapshot, batches=module.clock.batches), None
        for watch, state in zip(self.watches, snapshot.watches, strict=True):
            watch.go_back(state)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, DemonstrationDataModule):
            datamodule.buffer.forget(module.clock.batches - snapshot.batches)  # every round since pushed one

    def _judgement(self, rounds: int) -> TrainingVerdict:
        outcome = Outcome.RECOVERED if self.collapses else Outcome.HEALTHY
        if len(self.collapses) > self.max_restorations:
            outcome = Outcome.COLLAPSED
        return TrainingVerdict(outcome, rounds, tuple(self.collapses), self._factor)

    def _write(self, trainer: Trainer, rounds: int) -> None:
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / HEALTH
            write_summary(path, {**asdict(self._judgement(rounds)), "warnings": self.warnings})

    def _log(self, trainer: Trainer, module: RoundsModule, level: Level, signs: int) -> None:
        stopped = len(self.collapses) > self.max_restorations
        metrics = {
            "health/level": float(level),
            "health/signs": float(signs),
            "health/restorations": float(min(len(self.collapses), self.max_restorations)),
            "health/policy_rate_factor": self._factor,
            "health/stopped": float(stopped),
        }
        log_once(trainer, module, metrics)

    # Checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        snapshots = {"healthy": self.healthy, "candidate": self.candidate} if self.save_snapshots else {}
        return {
            "watches": [watch.state_dict() for watch in self.watches],
            "snapshots": {name: one.state_dict() for name, one in snapshots.items() if one is not None},
            "collapses": [asdict(collapse) for collapse in self.collapses],
            "factor": self._factor,
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: if other signs were watched.
        """
        saved = [(one["sign"], one["metric"]) for one in state_dict["watches"]]
        own = [(type(watch.sign).__name__, watch.sign.metric) for watch in self.watches]
        if saved != own:
            raise CheckpointError(
                "The checkpoint watched other signs of collapse.",
                expected=own,
                got=saved,
                remedy="resume with the signs that the run was started with",
            )
        for watch, state in zip(self.watches, state_dict["watches"], strict=True):
            watch.load_state_dict(state)
        snapshots = {name: Snapshot(**one) for name, one in state_dict["snapshots"].items()}
        self.healthy, self.candidate = snapshots.get("healthy"), snapshots.get("candidate")
        self.collapses = [Collapse(**one) for one in state_dict["collapses"]]
        self._factor, self.warnings = state_dict["factor"], list(state_dict.get("warnings", ()))  # older ones have none
