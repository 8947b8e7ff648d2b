"""Does the learned reward fall where a demonstration was corrupted?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning import Trainer

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation
from rairl_lightning.evaluation.localisation import Located, Reading, locate
from rairl_lightning.evaluation.localisation.pairs import from_first_token
from rairl_lightning.evaluation.localisation.rows import perturbed_rows
from rairl_lightning.evaluation.run_folder import LOCALISATION
from rairl_lightning.evaluation.summary import write_rows
from rairl_lightning.evaluation.token_rows import token_rows
from rairl_lightning.module import RAIRL
from rairl_lightning.text.chat import render_completion
from rairl_lightning.types import Demonstration

LOGGED = ("token", "within_7", "interval", "step")


class Localisation(PeriodicEvaluation):
    """Logs ``localise/<method>_<level>``: Hit@1 of the largest drop on perturbed held-out demonstrations.

    Methods are ``reward``, ``logprob_drop`` (of the policy) and ``chance``; levels ``token``, ``within_7`` (at most
    seven tokens off), ``interval`` and ``step``. ``localise/<method>_mrr`` is the mean reciprocal rank of the first
    changed token. A baseline learns no reward, and lacks that method. The pairs of the last evaluation are in
    ``localisation.jsonl``, with the place that was changed and those that were predicted.

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
        examples = self.examples(trainer, split)
        perturbed = trainer.datamodule.perturbed(examples, self.seed).to(module.device)  # type: ignore[attr-defined]
        tokens, readings, rewards_NT = perturbed.tokens, {}, None
        if isinstance(module, RAIRL):
            pay_NT = module.pay(tokens)
            rewards_NT = module.reader.rewards(pay_NT, tokens)
            readings["reward"] = Reading(pay_NT, module.reader.granularity(tokens))
        logprobs_NT = module.models.policy.score(tokens, module.max_tokens_per_microbatch).logprobs
        readings["logprob_drop"] = Reading(logprobs_NT, tokens.completion_mask)
        located = locate(perturbed, readings, self.interval)
        self.rows = []
        if located and trainer.is_global_zero:
            grid_NT = None if rewards_NT is None else readings["reward"].grid_NT
            found = perturbed_rows(perturbed, from_first_token(located, tokens), examples, module.codec)
            read = token_rows(tokens, rewards_NT, grid_NT, logprobs_NT)
            sources = [examples[source] for source in perturbed.sources.tolist()]
            self.rows = [
                {"round": module.clock.round, "split": split, **row, **_question(source), "tokens": one}
                for row, source, one in zip(found, sources, read, strict=True)
            ]
            write_rows(Path(trainer.default_root_dir) / LOCALISATION, self.rows)
        return _means(located)


def _question(source: Demonstration) -> dict[str, str]:
    return {"prompt": source.prompt, "clean": render_completion(source.reasoning, source.answer)}


def _means(located: Mapping[str, Located]) -> dict[str, float]:
    out = {}
    for method, one in located.items():
        for level in LOGGED:
            out[f"localise/{method}_{level}"] = float(one.levels[level].hit.mean())
        out[f"localise/{method}_mrr"] = float(one.levels["token"].reciprocal_rank.mean())
    return out
