"""The runs of the ablation: the SFT policies, discriminators on the best of them, policies that start from it.

1. *start*: SFT with three seeds; the best by the selection split is where everything else starts.
2. *discriminator*: D alone on traces of that policy, sampled once for all runs.
3. *policy*: R-AIRL in the two granularities whose D tells right from wrong best, and the baselines. Runs with one seed
   see the same prompts in the same order.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import ablation_recipe as recipe
import torch
from ablation_measure import Measurement, Solved, exactly, locate, pass_rates, rank, solve
from ablation_recipe import FULL, SMOKE, Scale
from ablation_workers import MEASUREMENTS
from lightning import Callback, LightningModule, Trainer

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks import DiscriminatorProbe, Health, RolloutRecorder
from rairl_lightning.callbacks.health import Outcome
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.sampling import Answered, answer_questions
from rairl_lightning.module import RAIRL
from rairl_lightning.types import Rollouts, TokenBatch

SEEDS = (0, 1, 2)
GRID = tuple(recipe.GRANULARITIES)
LOSSES = tuple(recipe.LOSSES)
CHOSEN_BY = "selection/auroc_within_prompt"
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


def starts(smoke: bool) -> list[Run]:
    """SFT, until its best selection epoch."""
    return [Run("start", "SFT", "", "", "", seed) for seed in (SEEDS[:1] if smoke else SEEDS)]


def discriminators(smoke: bool) -> list[Run]:
    """Those that policies may start from, then what a head, a loss and a feature are worth."""
    if smoke:
        names = [(granularity, head) for granularity in ("dense", "sparse") for head in ("expectation", "two-head")]
        return [Run("discriminator", "D", *one, "bce", SEEDS[0]) for one in names]
    starting = {head: [(granularity, head, "bce") for granularity in GRID] for head in ("expectation", "two-head")}
    losses = [
        (granularity, "expectation", loss) for loss in LOSSES if loss != "bce" for granularity in ("dense", "step")
    ]
    features = [("dense", head, "bce") for head in recipe.HEADS if head.startswith("no ")]
    compared = [*losses, *features, *((granularity, "linear", "bce") for granularity in GRID)]
    return [
        Run("discriminator", "D", *names, seed)
        for seeds, configurations in (
            (SEEDS, starting["expectation"]),
            (SEEDS, starting["two-head"]),
            (SEEDS[:1], compared),
        )
        for seed in seeds
        for names in configurations
    ]


def policies(smoke: bool, lines: list[dict[str, Any]]) -> list[Run]:
    """R-AIRL in the two granularities whose discriminators do best on selection questions, and the baselines."""
    if not (best := best_granularities(lines, 2)):
        return []
    first, second = best
    arms = [
        ("GRPO", "", "", ""),
        ("R-AIRL", first, "expectation", "bce"),
        ("R-AIRL", second, "expectation", "bce"),
        ("SFT continued", "", "", ""),
    ]
    critics = [("R-AIRL", granularity, "two-head", "bce") for granularity in (first, second)]
    seeds = SEEDS[:1] if smoke else SEEDS
    return [Run("policy", *names, seed) for some in (arms, critics) for seed in seeds for names in some]


def best_granularities(lines: list[dict[str, Any]], count: int) -> list[str]:
    """By the AUROC within a selection prompt, expectation head and cross-entropy, mean over the seeds."""
    found: dict[str, list[float]] = {}
    for line in lines:
        if (line["stage"], line["head"], line["loss"]) == ("discriminator", "expectation", "bce"):
            value = next(one["mean"] for one in line["measurements"] if one["metric"] == CHOSEN_BY)
            found.setdefault(line["granularity"], []).append(value)
    ranked = sorted(found, key=lambda name: -sum(found[name]) / len(found[name]))
    return ranked[:count] if len(ranked) >= count else []


def execute(run: Run, folder: Path, smoke: bool) -> list[Measurement]:
    """Do a run; deterministic, and writes below ``folder`` and the best start's alone.

    Args:
        run: one of those above.
        folder: its own; the other runs' lie beside it, by their keys.
        smoke: on a few questions, to see that it runs.
    """
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    scale = SMOKE if smoke else FULL
    arms = {"SFT": _start, "D": _discriminator, "SFT continued": _continued, "GRPO": _grpo, "R-AIRL": _rairl}
    began = time.perf_counter()
    measurements = arms[run.algorithm](run, folder, Place(folder, run, scale))
    return [*measurements, exactly("seconds", time.perf_counter() - began)]


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


# Arms ----------------------------------------------------------------------------------------------------------


def _start(run: Run, folder: Path, place: Place) -> list[Measurement]:
    scale = place.scale
    module = recipe.sft(recipe.BASE, run.seed, epochs=scale.sft_epochs)
    data = recipe.data(scale, run.seed)
    recipe.trainer(folder, validate=True).fit(module, datamodule=data)
    module.models.save_adapters(folder / ADAPTERS)
    solved = solve(module.models.policy, module.codec, data.examples("test"), scale.samples)
    torch.save([solved.greedy, solved.sampled], folder / SOLVED)
    return [*pass_rates(solved), exactly("selection/pass@1", module.best_epoch.score)]


def _continued(run: Run, folder: Path, place: Place) -> list[Measurement]:
    module = recipe.sft(place.backbone(), run.seed, epochs=place.scale.continued_epochs)
    data = recipe.data(place.scale, run.seed)
    recipe.trainer(folder, validate=True).fit(module, datamodule=data)
    return _figures(module, data, place)


def _grpo(run: Run, folder: Path, place: Place) -> list[Measurement]:
    module = recipe.grpo(place.scale, place.backbone(), run.seed)
    return _rounds(module, recipe.data(place.scale, run.seed), folder, place)


def _rairl(run: Run, folder: Path, place: Place) -> list[Measurement]:
    names = {"granularity": run.granularity, "head": run.head, "loss": run.loss}
    module = recipe.rairl(place.scale, place.backbone(), run.seed, **names, warm=True)
    data = recipe.data(place.scale, run.seed)
    warmed = place.of(Run("discriminator", "D", **names, seed=run.seed))
    probe = DiscriminatorProbe(every_n_updates=25, questions=64, samples=4)
    figures = _rounds(module, data, folder, place, StartFrom(warmed / ADAPTERS), probe)
    after = [
        *rank(module, place.pools(module, data)[2]),
        *locate(module, data.examples("test")[: place.scale.corrupted]),
    ]
    return [*figures, *(replace(one, metric=f"after/{one.metric}") for one in after)]


def _discriminator(run: Run, folder: Path, place: Place) -> list[Measurement]:
    scale, data = place.scale, recipe.data(place.scale, run.seed)
    names = {"granularity": run.granularity, "head": run.head, "loss": run.loss}
    module = recipe.rairl(scale, place.backbone(), run.seed, **names, warm=False)
    pools: list[Answered] = []

    class Stored(Callback):
        """The policy stands still: draw from its stored traces."""

        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pools.extend(place.pools(module, data))
            module.sampler = recipe.StoredSampler(pools[0].rollouts)

    recipe.trainer(folder, RolloutRecorder(), Stored()).fit(module, datamodule=data)
    module.models.save_adapters(folder / ADAPTERS)
    module.sampler = recipe.SAMPLER
    questions = data.examples("test")[: scale.corrupted]
    seen = locate(module, questions, recipe.TRAINED, "_trained_kinds")
    chosen = [replace(one, metric=f"selection/{one.metric}") for one in rank(module, pools[1])]
    return [*chosen, *rank(module, pools[2]), *locate(module, questions), *seen]


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


def _rounds(
    module: RoundsModule, data: DemonstrationDataModule, folder: Path, place: Place, *callbacks: Callback
) -> list[Measurement]:
    health = Health()
    recipe.trainer(folder, RolloutRecorder(), *callbacks, History(folder), health).fit(module, datamodule=data)
    collapsed = health.verdict is not None and health.verdict.outcome is Outcome.COLLAPSED
    return [
        *_figures(module, data, place),
        exactly("collapsed", float(collapsed)),
        exactly("restorations", float(len(health.collapses))),
        exactly("rounds", float(module.clock.round)),
    ]


def _figures(module: PairModule, data: DemonstrationDataModule, place: Place) -> list[Measurement]:
    solved = solve(module.models.policy, module.codec, data.examples("test"), place.scale.samples)
    return pass_rates(solved, place.solved())
