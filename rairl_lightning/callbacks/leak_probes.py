"""Warns where the discriminator's positives could be told from its negatives by their surface alone."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rairl_lightning.algorithms.requirements import require_reward
from rairl_lightning.callbacks.periodic import log_once
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.leak_advice import BEFORE, PERTURBED, ROLLOUTS, Comparison, explain
from rairl_lightning.evaluation.leaks import FEWEST_PROMPTS, THRESHOLD, LeakReport, find_leaks
from rairl_lightning.evaluation.summary import write_summary
from rairl_lightning.evaluation.traits import Traits
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.module import RAIRL
from rairl_lightning.types import TrainBatch

WRITTEN = 12
"""Features of a measurement that ``leaks.json`` holds."""
NAMED = 3
"""Features that a warning names and the log shows."""


class LeakProbes(Callback):
    """Tries tiny classifiers on surface features (length, ending, tags, spacing, first tokens, ...), and warns.

    Before training on demonstrations against perturbed ones; then, from the first discriminator update on, on the
    positives of the last rounds against the rollouts labelled negative and against perturbed demonstrations. A feature
    is warned of once, where its AUROC alone is shown (99 %, one-sided, prompts taken for independent) to lie above
    ``threshold``. Logs the strongest as ``leaks/<comparison>/<feature>``, and ``leaks/<comparison>/all_features``, a
    held-out logistic regression; writes every measurement to ``leaks.json`` in the run folder. Draws nothing from the
    run's generators. On several processes the first looks at its own traces.

    Args:
        every_n_rounds: rounds, those of the warm-up included, between two measurements, >= 1.
        window: last rounds whose traces are measured, >= 1.
        demonstrations: most training demonstrations that are measured before training, >= 0.
        threshold: AUROC above which a feature is warned of, in [0.5, 1).
        seed: of the perturbations before training.
    """

    def __init__(
        self,
        every_n_rounds: int = 25,
        window: int = 8,
        demonstrations: int = 256,
        threshold: float = THRESHOLD,
        seed: int = 0,
    ) -> None:
        if min(every_n_rounds, window) < 1 or demonstrations < 0 or not 0.5 <= threshold < 1:
            raise ConfigError(
                "LeakProbes cannot run with these settings.",
                expected="every_n_rounds, window >= 1; demonstrations >= 0; threshold in [0.5, 1)",
                got=f"{every_n_rounds}, {window}; {demonstrations}; {threshold}",
            )
        self.every_n_rounds, self.demonstrations = every_n_rounds, demonstrations
        self.threshold, self.seed = threshold, seed
        self._window: deque[dict[str, Traits]] = deque(maxlen=window)
        self._rounds = 0
        self._measured: list[dict[str, Any]] = []
        self._warned: set[tuple[str, str]] = set()
        self._unlogged: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a baseline, which has no discriminator that could be fooled."""
        require_reward(pl_module, self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare demonstrations with perturbed ones, unless the run is resumed."""
        data = getattr(trainer, "datamodule", None)
        wanted = self.demonstrations and not self._measured and trainer.is_global_zero
        if wanted and isinstance(pl_module, RAIRL) and isinstance(data, DemonstrationDataModule):
            self._before(trainer, pl_module.codec, data)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember a round, and measure where it is due."""
        if not isinstance(pl_module, RAIRL) or not trainer.is_global_zero:
            return
        metrics, self._unlogged = self._unlogged, {}
        if isinstance(outputs, Mapping) and {"positives", "negatives"} <= outputs.keys():
            self._rounds += 1
            missing = -self._rounds % self.every_n_rounds
            if missing < (self._window.maxlen or 0):  # what would have left the window by then is not looked at
                self._remember(pl_module.codec, outputs, batch)
            if not missing:
                metrics |= self._during(trainer)
        if metrics:
            log_once(trainer, pl_module, metrics)

    def _before(self, trainer: Trainer, codec: TraceCodec, data: DemonstrationDataModule) -> None:
        examples = data.examples("train")[: self.demonstrations]
        perturbed = data.perturbed(examples, self.seed).tokens
        if len(perturbed):
            experts = Traits.of_traces([codec.encode_demonstration(one) for one in examples], codec)
            self._unlogged = self._judge(BEFORE, find_leaks(experts, Traits.of_tokens(perturbed, codec)))
            self._write(trainer)

    def _remember(self, codec: TraceCodec, outputs: Mapping[str, Any], batch: TrainBatch) -> None:
        parts = {
            "demonstrations": batch.experts,
            "agreeing": outputs["positives"],
            "rollouts": outputs["negatives"],
            "perturbed": batch.perturbed.tokens,
        }
        self._window.append({name: Traits.of_tokens(tokens, codec) for name, tokens in parts.items()})

    def _during(self, trainer: Trainer) -> dict[str, float]:
        parts = {name: Traits.cat(round_[name] for round_ in self._window) for name in self._window[0]}
        positives = Traits.cat([parts["demonstrations"], parts["agreeing"]])
        metrics = self._judge(ROLLOUTS, find_leaks(positives, parts["rollouts"]))
        metrics |= self._judge(PERTURBED, find_leaks(positives, parts["perturbed"]))
        self._write(trainer)
        return metrics

    def _judge(self, comparison: Comparison, report: LeakReport) -> dict[str, float]:
        """Note a measurement, warn of what is new in it, and return what is logged."""
        entry = {"after_rounds": self._rounds, "comparison": comparison.key, **report.to_json(WRITTEN)}
        leaks = report.leaks(self.threshold)
        self._measured.append({**entry, "leaks": [one.feature for one in leaks]})
        new = [one for one in leaks if (comparison.key, one.feature) not in self._warned]
        if new:
            self._warned |= {(comparison.key, one.feature) for one in new}
            warnings.warn(f"LeakProbes: {explain(report, new, comparison, NAMED)}", stacklevel=2)
        if report.together is None:
            return {}
        strongest = {one.feature: one.auroc for one in report.findings[:NAMED]}
        areas = {**strongest, "all_features": report.together.auroc}
        return {f"leaks/{comparison.key}/{name}": area for name, area in areas.items()}

    def _write(self, trainer: Trainer) -> None:
        path = Path(trainer.default_root_dir) / "leaks.json"
        settings = {"threshold": self.threshold, "fewest_prompts": FEWEST_PROMPTS}
        write_summary(path, {**settings, "measurements": self._measured})

    # Checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Measurements, what was warned of, and the rounds that are being collected."""
        return {
            "rounds": self._rounds,
            "measured": list(self._measured),
            "warned": sorted(self._warned),
            "window": [{name: traits.state_dict() for name, traits in one.items()} for one in self._window],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; rounds with other features, of another version, are left out."""
        self._rounds, self._measured = state_dict["rounds"], list(state_dict["measured"])
        self._warned = {(comparison, feature) for comparison, feature in state_dict["warned"]}
        self._window.clear()
        for saved in state_dict["window"]:
            one = {name: Traits(**traits) for name, traits in saved.items()}
            if all(traits.is_current for traits in one.values()):
                self._window.append(one)
