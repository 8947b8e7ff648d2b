"""What a run of the ablation leaves in its folder, and what later runs find there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import ablation_recipe as recipe
import torch
from ablation_measure import Solved
from ablation_recipe import Scale
from ablation_workers import MEASUREMENTS
from lightning import Callback, LightningModule, Trainer

from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.sampling import Answered, answer_questions
from rairl_lightning.module import RAIRL
from rairl_lightning.types import Rollouts, TokenBatch

SEEDS = (0, 1, 2)
SOLVED, POOL, ADAPTERS = "solved.pt", "pool.pt", "adapters"


@dataclass(frozen=True)
class Run:
    """One line of the ledger.

    Args:
        stage: start, discriminator or policy.
        algorithm: what is trained.
        granularity: of the reward; none for the baselines.
        head: of the discriminator; likewise.
        loss: of the discriminator; likewise.
        seed: of everything random in it.
    """

    stage: str
    algorithm: str
    granularity: str
    head: str
    loss: str
    seed: int

    @property
    def key(self) -> str:
        """Its folder."""
        parts = (self.stage, self.algorithm, self.granularity, self.head, self.loss, str(self.seed))
        return "/".join(part.replace(" ", "_") or "none" for part in parts)


class Place:
    """Where a run finds what earlier runs left.

    Args:
        folder: the run's own.
        run: whose it is.
        scale: how much is done.
    """

    def __init__(self, folder: Path, run: Run, scale: Scale) -> None:
        self.out = folder.parents[len(Path(run.key).parts) - 1]
        self.scale = scale

    def of(self, run: Run) -> Path:
        """Folder of another run."""
        return self.out / run.key

    def best_start(self) -> Path:
        """Folder of the SFT run with the best selection score."""
        scores = {}
        for seed in SEEDS:
            folder = self.of(Run("start", "SFT", "", "", "", seed))
            if (folder / MEASUREMENTS).exists():
                found = json.loads((folder / MEASUREMENTS).read_text("utf-8"))
                scores[folder] = next(one["mean"] for one in found if one["metric"] == "selection/pass@1")
        if not scores:
            raise ConfigError("No SFT run is there to start from.", remedy="run the stage start first")
        return max(scores, key=lambda folder: scores[folder])

    def backbone(self) -> str:
        """The best start's policy, as a folder that transformers reads."""
        return str(self.best_start() / ADAPTERS / "policy")

    def solved(self) -> Solved:
        """What the best start solves of the test split."""
        return Solved(*torch.load(self.best_start() / SOLVED, weights_only=True))

    def pools(self, module: RAIRL, data: DemonstrationDataModule) -> list[Answered]:
        """The best start's traces of training, selection and test questions; sampled by whoever comes first."""
        file = self.best_start() / POOL
        if not file.exists():
            scale = self.scale
            wanted = (
                (data.examples("train"), scale.pool_rollouts, 11),
                (data.examples("selection")[: scale.pool_questions], scale.selection_rollouts, 12),
                (data.examples("test")[: scale.pool_questions], scale.best_of, 13),
            )
            policy, codec = module.models.policy, module.codec
            drawn = [answer_questions(policy, recipe.SAMPLER, codec, some, n, seed=seed) for some, n, seed in wanted]
            partial = file.with_name(f"{POOL}.{os.getpid()}")
            torch.save([_plain(answered) for answered in drawn], partial)
            partial.replace(file)
        return [_answered(plain) for plain in torch.load(file, weights_only=True)]


def _plain(answered: Answered) -> dict[str, Any]:
    rollouts = answered.rollouts
    return {
        "tokens": [getattr(rollouts.tokens, item.name) for item in fields(TokenBatch)],
        "rollouts": [rollouts.logprobs, rollouts.finished, list(rollouts.texts), rollouts.group_size],
        "graded": [answered.correct_QN, answered.classes_QN],
    }


def _answered(plain: dict[str, Any]) -> Answered:
    logprobs, finished, texts, group_size = plain["rollouts"]
    return Answered(
        Rollouts(TokenBatch(*plain["tokens"]), logprobs, finished, tuple(texts), group_size), *plain["graded"]
    )


class StartFrom(Callback):
    """Loads both players before anything moves.

    Args:
        folder: written by ``save_adapters``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once the models are there."""
        pl_module.models.load_adapters(self.folder)  # type: ignore[union-attr,operator]


class History(Callback):
    """One line a round into ``history.jsonl``, to see afterwards how a run went.

    Args:
        folder: of the run.
    """

    NAMES = (
        "discriminator/heldout_auroc",
        "rollouts/agreement",
        "rollouts/length",
        "policy/entropy",
        "reward/mean",
        "discriminator/auroc",
    )

    def __init__(self, folder: Path) -> None:
        self.file = folder / "history.jsonl"
        self.file.unlink(missing_ok=True)  # of an attempt before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """What the round logged."""
        row = {name: round(float(v), 5) for name, v in trainer.callback_metrics.items() if name in self.NAMES}
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
