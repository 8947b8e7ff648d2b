"""Does the learned reward fall where a demonstration was corrupted?"""

from __future__ import annotations

from lightning import Trainer
from torch import Tensor

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation
from rairl_lightning.evaluation.localisation import localise
from rairl_lightning.module import RAIRL


class Localisation(PeriodicEvaluation):
    """Logs ``localise/<method>_<level>``: Hit@1 of the largest drop on perturbed held-out demonstrations.

    Methods are ``reward``, ``logprob_drop`` (of the policy) and ``chance``; levels ``token``, ``interval``, ``step``.
    A baseline learns no reward, and lacks that method.

    Args:
        every_n_rounds: rounds between two evaluations, >= 1.
        questions: most demonstrations of the split to corrupt, >= 1.
        interval: tokens of an interval (paper: 15), >= 1.
        seed: of the perturbations; the same at every evaluation.
    """

    def __init__(self, every_n_rounds: int = 50, questions: int = 128, interval: int = 15, seed: int = 0) -> None:
        super().__init__(every_n_rounds, questions)
        self.interval, self.seed = interval, seed

    def evaluate(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, float]:
        """Means over the corrupted demonstrations; nothing where no perturbation applies."""
        values = self.hits(trainer, module, split)
        return {
            f"localise/{method}_{level}": float(hit.mean())
            for method, levels in values.items()
            for level, hit in levels.items()
            if len(hit)
        }

    def hits(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, dict[str, Tensor]]:
        """One value for each corrupted demonstration, by method and level."""
        examples = self.examples(trainer, split)
        perturbed = trainer.datamodule.perturbed(examples, self.seed).to(module.device)  # type: ignore[attr-defined]
        tokens = perturbed.tokens
        return localise(
            perturbed,
            module.pay(tokens) if isinstance(module, RAIRL) else None,
            module.reader.granularity(tokens) if isinstance(module, RAIRL) else None,
            module.models.policy.score(tokens, module.max_tokens_per_microbatch).logprobs,
            self.interval,
        )
