"""Does the learned reward pick the right one of N samples, and what does without one?"""

from __future__ import annotations

from lightning import Trainer

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation
from rairl_lightning.evaluation.reranking import rerank, reward_auroc
from rairl_lightning.evaluation.sampling import answer_questions
from rairl_lightning.module import RAIRL


class Reranking(PeriodicEvaluation):
    """Logs ``rerank/…``: Best-of-N by reward against majority, log-probability, random and oracle.

    ``random`` is pass@1 of the samples; ``reward_gain`` is what the reward adds to it. A baseline learns no reward,
    and lacks what is ranked by one.

    Args:
        every_n_rounds: rounds between two evaluations, >= 1.
        questions: most questions of the split to use, >= 1.
        samples: N, >= 1.
        temperature: of the samples (paper: 0.5), > 0; null takes the sampler's.
        seed: of the samples; the same at every evaluation, so that curves can be compared.
    """

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
        answered = answer_questions(
            module.models.policy,
            module.sampler,
            module.codec,
            self.examples(trainer, split),
            self.samples,
            seed=self.seed,
            temperature=self.temperature,
        )
        tokens = answered.rollouts.tokens
        rewards_QN = answered.per_question(module.trace_rewards(tokens)) if isinstance(module, RAIRL) else None
        rates = {name: float(values.mean()) for name, values in rerank(answered, rewards_QN).items()}
        metrics = {f"rerank/{name}": rate for name, rate in rates.items()}
        if rewards_QN is None:
            return metrics
        metrics["rerank/reward_gain"] = rates["reward"] - rates["random"]
        return {**metrics, "rerank/auroc": reward_auroc(rewards_QN, answered.correct_QN)}
