"""Does the learned reward pick the right one of N samples, and what does without one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation, answered_by
from rairl_lightning.components.pooling import Pooling, TokenWeighted
from rairl_lightning.evaluation.calibration import NoCalibration, reliability
from rairl_lightning.evaluation.reranking import rerank, reward_auroc
from rairl_lightning.evaluation.run_folder import RERANKING, append_rows
from rairl_lightning.evaluation.sampling import Answered
from rairl_lightning.evaluation.summary import interval
from rairl_lightning.functional.bootstrap import paired_bootstrap
from rairl_lightning.module import RAIRL

FEWER = (2, 4, 8)


class Reranking(PeriodicEvaluation):
    """Logs ``rerank/…``: Best-of-N by reward against majority, log-probability, shortest, random and oracle.

    ``random`` is pass@1 of the samples; ``reward_gain`` is what the reward adds to it, between ``reward_gain_low`` and
    ``reward_gain_high`` (95 %, paired bootstrap over questions). ``reward@n`` and so on are the same rules where only
    n of the samples are there to choose from, n = 2, 4, 8 below N. A baseline learns no reward, and lacks what is
    ranked by one. The same with intervals, and how reliable ``σ(reward)`` is, goes to ``reranking.jsonl``.

    Args:
        every_n_rounds: rounds between two evaluations, >= 1.
        questions: most questions of the split to use, >= 1.
        samples: N, >= 1.
        temperature: of the samples (paper: 0.5), > 0; null takes the sampler's.
        seed: of the samples; the same at every evaluation, so that curves can be compared.
    """

    appends_to = (RERANKING,)

    def __init__(
        self,
        every_n_rounds: int = 50,
        questions: int = 64,
        samples: int = 16,
        temperature: float | None = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_rounds, questions)
        self.samples, self.temperature, self.seed = samples, temperature, seed

    def evaluate(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, float]:
        """Means over the questions."""
        questions = self.examples(trainer, split)
        answered = answered_by(module, questions, self.samples, seed=self.seed, temperature=self.temperature)
        tokens = answered.rollouts.tokens
        rewards_QN = answered.per_question(module.trace_rewards(tokens)) if isinstance(module, RAIRL) else None
        pooling = module.reader.pooling if isinstance(module, RAIRL) else TokenWeighted()
        whole = rerank(answered, rewards_QN, pooling=pooling)
        rules = {**whole, **self._of_fewer(answered, rewards_QN, pooling)}
        metrics = {f"rerank/{name}": float(values.mean()) for name, values in rules.items()}
        if trainer.is_global_zero:
            at = {"round": module.clock.round, "split": split, "questions": len(questions)}
            row = {**at, "best_of": self._best_of(rules), **self._quality(answered, rewards_QN)}
            self.rows = [row]
            append_rows(Path(trainer.default_root_dir) / RERANKING, self.rows)
        if rewards_QN is None:
            return metrics
        generator = torch.Generator().manual_seed(self.seed)
        gain = paired_bootstrap(whole["reward"], whole["random"], generator=generator)
        names = ("reward_gain", "reward_gain_low", "reward_gain_high")
        metrics |= {f"rerank/{name}": value for name, value in zip(names, gain, strict=True)}
        return {**metrics, "rerank/auroc": reward_auroc(rewards_QN, answered.correct_QN)}

    def _of_fewer(self, answered: Answered, rewards_QN: Tensor | None, pooling: Pooling) -> dict[str, Tensor]:
        """The rules at the smaller N; a random choice is the same at each."""
        return {
            f"{name}@{n}": values
            for n in FEWER
            if n < self.samples
            for name, values in rerank(answered, rewards_QN, n, pooling).items()
            if name != "random"
        }

    def _best_of(self, rules: dict[str, Tensor]) -> dict[str, dict[str, list[float]]]:
        """The rules by N, with their intervals; a random choice is the same at each."""
        out: dict[str, dict[str, list[float]]] = {}
        for name, values_Q in rules.items():
            rule, _, n = name.partition("@")
            out.setdefault(n or str(self.samples), {})[rule] = interval(values_Q, self.seed)
        for rows in out.values():
            rows["random"] = out[str(self.samples)]["random"]
        return out

    def _quality(self, answered: Answered, rewards_QN: Tensor | None) -> dict[str, Any]:
        """Whether the reward ranks, and whether it is a probability."""
        if rewards_QN is None:
            return {}
        rewards_M, correct_M = rewards_QN.flatten(), answered.correct_QN.flatten()
        kept_M = rewards_M.isfinite()
        questions_M = torch.arange(len(rewards_QN)).repeat_interleave(rewards_QN.shape[1])
        _, units_M = questions_M[kept_M].unique(return_inverse=True)
        probabilities_M = NoCalibration().fit(rewards_M, correct_M).probability(rewards_M[kept_M])
        curve = reliability(probabilities_M, correct_M[kept_M], units_M, self.seed)
        return {"auroc": reward_auroc(rewards_QN, answered.correct_QN), "reliability": curve}
