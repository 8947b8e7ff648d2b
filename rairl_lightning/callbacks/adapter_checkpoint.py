"""Checkpoints by round: both players of the same round, nothing of the frozen base."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.callbacks.checkpoint_io import put_folder, write_whole_checkpoints
from rairl_lightning.callbacks.health import Level
from rairl_lightning.components.description import REWARD_FILE, STATE_KEY
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.provenance import commit
from rairl_lightning.evaluation.summary import write_summary


class AdapterCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` and numbered ones, and the adapters in PEFT's own layout at the end.

    The SFT phase has no rounds: ``last.ckpt`` is then saved after the first step behind every epoch, since Lightning
    does not validate an epoch again that was saved at its end.

    A checkpoint is written under a temporary name, synced to the disk and renamed, so a full disk, a kill or a loss of
    power leaves the previous one. So are the adapters, as a folder.

    Either is enough to load the reward by: ``TrainedReward.load``, ``rairl score --reward``. What it is made of is in
    the checkpoint under ``rairl``, and beside the adapters in ``reward.json``: pair and reader by class and fields,
    fingerprints of base and tokenizer, version and commit, and hashes of the questions it was trained on.

    ``best.ckpt`` holds both players of the round with the best selection metric, where one is named. ``rairl fit
    --ckpt_path last`` goes on from the furthest whole checkpoint, ``--ckpt_path best`` names that one.

    Args:
        every_n_rounds: rounds between two checkpoints, >= 1; in the warm-up, whose rounds count too, only ``last.ckpt``
            is written. The end of the warm-up and of training always saves.
        keep: numbered checkpoints to keep, >= 0; ``last.ckpt`` is kept besides.
        monitor: metric on the selection split that chooses ``best.ckpt``, higher is better, such as
            ``selection/rerank/reward`` (of ``Reranking``); null keeps none.
    """

    def __init__(self, every_n_rounds: int = 50, keep: int = 1, monitor: str | None = None) -> None:
        if monitor is not None and not monitor.startswith("selection/"):
            raise ConfigError(
                "The best checkpoint is chosen on the selection split alone.",
                expected="a metric named selection/…, or null",
                got=monitor,
                remedy="set monitor: selection/rerank/reward, of the callback Reranking",
            )
        if every_n_rounds < 1 or keep < 0:
            raise ConfigError(
                "AdapterCheckpoint cannot run with these settings.",
                expected="every_n_rounds >= 1, keep >= 0",
                got=f"{every_n_rounds}, {keep}",
            )
        self.every_n_rounds, self.keep, self.monitor = every_n_rounds, keep, monitor
        self._best = float("-inf")
        self._saved_round, self._saved_epoch, self._warmed = -1, 0, 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write whole files; tell the module which code trains it, and on what."""
        write_whole_checkpoints(trainer)
        if isinstance(pl_module, PairModule):
            pl_module.commit = commit()
            data = getattr(trainer, "datamodule", None)
            if stage == "fit" and isinstance(data, DemonstrationDataModule):
                pl_module.trained_on = QuestionHashes.of(one.prompt for one in data.examples("train")).packed()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what an earlier run was trained on: its weights go on from there, on other data maybe."""
        before = checkpoint.get(STATE_KEY, {}).get("artefact", {}).get("trained_on")
        if isinstance(pl_module, PairModule) and before is not None:
            own = QuestionHashes.unpacked(pl_module.trained_on)
            pl_module.trained_on = (own | QuestionHashes.unpacked(before)).packed()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due."""
        if isinstance(pl_module, PairModule):
            self._after_sft_epoch(trainer, pl_module)
            self._in_warmup(trainer, pl_module)
            finished = pl_module.clock.round
            due = finished % self.every_n_rounds == 0 or trainer.should_stop  # the last round, before any report
            best = self._improved(trainer, pl_module)
            if finished and finished != self._saved_round and (due or best):
                last = self._save(trainer, pl_module, numbered=due)
                if best and trainer.is_global_zero:
                    linked(last, last.with_name("best.ckpt"))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last round, and both players' adapters as others load them."""
        if not isinstance(pl_module, PairModule):
            return
        if self.monitor is not None and self._best == float("-inf"):
            known = sorted(name for name in trainer.callback_metrics if name.startswith("selection/"))
            rank_zero_warn(f"AdapterCheckpoint: {self.monitor} was never logged, there is no best.ckpt; of {known}.")
        path = self._save(trainer, pl_module)
        adapters = path.parent.parent / "adapters"
        partial = adapters.with_name("adapters.partial")
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
        pl_module.models.save_adapters(partial)  # every process gathers, the first writes
        if trainer.is_global_zero:
            if pl_module.learns_reward:
                write_summary(partial / REWARD_FILE, pl_module.artefact())
            put_folder(partial, adapters)
            rank_zero_info(f"Saved {path} and {adapters}.")

    def state_dict(self) -> dict[str, float]:
        """The best score, so that a resumed run does not start to look anew."""
        return {} if self.monitor is None else {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._best = state_dict.get("best", self._best)

    def _improved(self, trainer: Trainer, module: PairModule) -> bool:
        """Whether this round's players are the best so far; a metric that was not measured anew is no better."""
        if self.monitor is None or module.clock.phase is not Phase.ADVERSARIAL:
            return False
        logged = trainer.callback_metrics
        score = float(logged.get(self.monitor, float("nan")))
        restored = float(logged.get("health/level", 0.0)) >= Level.COLLAPSE  # other players than those it was of
        better = score > self._best and not restored
        self._best = score if better else self._best
        return better

    def _after_sft_epoch(self, trainer: Trainer, module: PairModule) -> None:
        if module.clock.phase is Phase.SFT and module.clock.sft_epoch != self._saved_epoch:
            self._saved_epoch = module.clock.sft_epoch
            self._save(trainer, module, numbered=False)

    def _in_warmup(self, trainer: Trainer, module: PairModule) -> None:
        warmed = module.clock.phase is Phase.WARMUP and module.clock.discriminator_updates > 0
        self._warmed += warmed
        over = module.clock.phase is Phase.ADVERSARIAL and module.clock.round == 0  # with this very step
        if over or (warmed and self._warmed % self.every_n_rounds == 0):
            self._save(trainer, module, numbered=False)

    def _save(self, trainer: Trainer, module: PairModule, *, numbered: bool = True) -> Path:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        self._saved_round = module.clock.round
        last = folder / "last.ckpt"
        partial = folder / "last.ckpt.partial"
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            partial.replace(last)
            if self.keep and numbered:
                self._number(last, module.clock.round)
        return last

    def _number(self, last: Path, round_: int) -> None:
        numbered = last.with_name(f"round-{round_:06d}.ckpt")
        linked(last, numbered)
        for old in sorted(last.parent.glob("round-*.ckpt"))[: -self.keep]:
            old.unlink()


def linked(file: Path, name: Path) -> None:
    """Give a file a second name, in one step: the same bytes, no second copy where the file system can."""
    partial = name.with_name(f"{name.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:  # a file system without hard links
        shutil.copy2(file, partial)
    partial.replace(name)
