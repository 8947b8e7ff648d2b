"""Does the learned reward fall where a demonstration was corrupted?"""

from __future__ import annotations

from lightning import Trainer

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation
from rairl_lightning.evaluation.localisation import Located, Reading, locate
from rairl_lightning.module import RAIRL

LOGGED = ("token", "within_7", "interval", "step")


class Localisation(PeriodicEvaluation):
    """Logs ``localise/<method>_<level>``: Hit@1 of the largest drop on perturbed held-out demonstrations.

    Methods are ``reward``, ``logprob_drop`` (of the policy) and ``chance``; levels ``token``, ``within_7`` (at most
    seven tokens off), ``interval`` and ``step``. ``localise/<method>_mrr`` is the mean reciprocal rank of the first
    changed token. A baseline learns no reward, and lacks that method.

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
        out = {}
        for method, located in self.located(trainer, module, split).items():
            for level in LOGGED:
                out[f"localise/{method}_{level}"] = float(located.levels[level].hit.mean())
            out[f"localise/{method}_mrr"] = float(located.levels["token"].reciprocal_rank.mean())
        return out

    def located(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, Located]:
        """What each method finds in each corrupted demonstration."""
        examples = self.examples(trainer, split)
        perturbed = trainer.datamodule.perturbed(examples, self.seed).to(module.device)  # type: ignore[attr-defined]
        tokens = perturbed.tokens
        readings = {}
        if isinstance(module, RAIRL):
            readings["reward"] = Reading(module.pay(tokens), module.reader.granularity(tokens))
        logprobs_NT = module.models.policy.score(tokens, module.max_tokens_per_microbatch).logprobs
        readings["logprob_drop"] = Reading(logprobs_NT, tokens.completion_mask)
        return locate(perturbed, readings, self.interval)
