"""The runs of the ablation: the SFT policies, discriminators on the best of them, policies that start from it.

1. *start*: SFT with three seeds; the best by the selection split is where everything else starts.
2. *discriminator*: D alone on traces of that policy, sampled once for all runs.
3. *policy*: R-AIRL in the two granularities whose D tells right from wrong best, and the baselines. Runs with one seed
   see the same prompts in the same order.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import ablation_recipe as recipe
import torch
from ablation_folders import ADAPTERS, SEEDS, SOLVED, History, Place, Run, StartFrom
from ablation_measure import Measurement, exactly, locate, pass_rates, rank, solve
from ablation_recipe import FULL, SMOKE
from ablation_sampler import StoredSampler
from lightning import Callback, LightningModule, Trainer

from rairl_lightning.algorithms.base import PairModule
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks import DiscriminatorProbe, Health, RolloutRecorder
from rairl_lightning.callbacks.health import Outcome
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.evaluation.sampling import Answered

GRID = tuple(recipe.GRANULARITIES)
LOSSES = tuple(recipe.LOSSES)
CHOSEN_BY = "selection/auroc_within_prompt"


def starts(smoke: bool) -> list[Run]:
    """SFT, until its best selection epoch."""
    return [Run("start", "SFT", "", "", "", seed) for seed in (SEEDS[:1] if smoke else SEEDS)]


def discriminators(smoke: bool) -> list[Run]:
    """Those that policies may start from, then what a head, a loss, a feature and a setting are worth."""
    if smoke:
        names = [(granularity, head) for granularity in ("dense", "sparse") for head in ("expectation", "two-head")]
        return [Run("discriminator", "D", *one, "bce", SEEDS[0]) for one in names]
    starting = {head: [(granularity, head, "bce") for granularity in GRID] for head in ("expectation", "two-head")}
    losses = [
        (granularity, "expectation", loss) for loss in LOSSES if loss != "bce" for granularity in ("dense", "step")
    ]
    features = [("dense", head, "bce") for head in recipe.HEADS if head.startswith("no ") or head.endswith("paid f")]
    compared = [*losses, *features, *((granularity, "linear", "bce") for granularity in GRID)]
    settings = [Run("discriminator", f"D {name}", "dense", "expectation", "bce", 0) for name in recipe.VARIANTS if name]
    return [
        Run("discriminator", "D", *names, seed)
        for seeds, configurations in (
            (SEEDS, starting["expectation"]),
            (SEEDS, starting["two-head"]),
            (SEEDS[:1], compared),
        )
        for seed in seeds
        for names in configurations
    ] + settings


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
        if tuple(line[name] for name in ("algorithm", "head", "loss")) == ("D", "expectation", "bce"):
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
    arms = {"SFT": _start, "SFT continued": _continued, "GRPO": _grpo, "R-AIRL": _rairl}
    began = time.perf_counter()
    arm = _discriminator if run.stage == "discriminator" else arms[run.algorithm]
    measurements = arm(run, folder, Place(folder, run, scale))
    return [*measurements, exactly("seconds", time.perf_counter() - began)]


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
    variant = run.algorithm.partition(" ")[2]
    module = recipe.rairl(scale, place.backbone(), run.seed, **names, warm=False, variant=variant)
    pools: list[Answered] = []

    class Stored(Callback):
        """The policy stands still: draw from its stored traces."""

        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pools.extend(place.pools(module, data))
            module.sampler = StoredSampler(pools[0].rollouts)

    recipe.trainer(folder, RolloutRecorder(), Stored()).fit(module, datamodule=data)
    module.models.save_adapters(folder / ADAPTERS)
    module.sampler = recipe.SAMPLER
    questions = data.examples("test")[: scale.corrupted]
    seen = locate(module, questions, recipe.TRAINED, "_trained_kinds")
    chosen = [replace(one, metric=f"selection/{one.metric}") for one in rank(module, pools[1])]
    return [*chosen, *rank(module, pools[2]), *locate(module, questions), *seen]


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
