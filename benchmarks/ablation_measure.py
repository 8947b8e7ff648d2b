"""What the ablation measures, each with a 95 % bootstrap interval over test questions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ablation_recipe import INTERVAL, MICROBATCH, SAMPLER, UNSEEN
from torch import Tensor

from rairl_lightning.components import Minimum
from rairl_lightning.data.negatives import PerturbedDemonstrations
from rairl_lightning.evaluation.localisation import localise
from rairl_lightning.evaluation.reranking import rerank
from rairl_lightning.evaluation.sampling import Answered, answer_questions
from rairl_lightning.functional.bootstrap import bootstrap_interval, paired_bootstrap
from rairl_lightning.functional.ranking import auroc, best_of_n, grouped_auroc
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.policy import Policy
from rairl_lightning.module import RAIRL
from rairl_lightning.text.perturbations import Perturbation
from rairl_lightning.types import Demonstration, Perturbed

RESAMPLES = 500  # of an AUROC, which takes long


@dataclass(frozen=True)
class Measurement:
    """A figure of one run.

    Args:
        metric: its name.
        mean: the figure.
        low: lower end of its 95 % interval; equal to ``mean`` where nothing was sampled.
        high: upper end.
    """

    metric: str
    mean: float
    low: float
    high: float


def exactly(metric: str, value: float) -> Measurement:
    """A figure without an interval."""
    return Measurement(metric, value, value, value)


def mean_of(metric: str, values_Q: Tensor) -> Measurement:
    """A mean over questions."""
    return Measurement(metric, *bootstrap_interval(values_Q, generator=_generator()))


# Policies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solved:
    """How often a policy is right on each of Q questions, ``[Q]`` float64 each.

    Args:
        greedy: 0 or 1.
        sampled: mean over samples at temperature 1.
    """

    greedy: Tensor
    sampled: Tensor


def solve(policy: Policy, codec: TraceCodec, questions: Sequence[Demonstration], samples: int) -> Solved:
    """Answer each question once greedily and ``samples`` times at temperature 1."""

    def right(count: int, temperature: float) -> Tensor:
        answered = answer_questions(policy, SAMPLER, codec, questions, count, seed=1, temperature=temperature)
        return answered.correct_QN.double().mean(dim=1)

    return Solved(greedy=right(1, 0.0), sampled=right(samples, 1.0))


def pass_rates(solved: Solved, start: Solved | None = None) -> list[Measurement]:
    """pass@1, and the gain over ``start`` on the same questions."""
    out = [mean_of("pass@1/greedy", solved.greedy), mean_of("pass@1/sampled", solved.sampled)]
    if start is not None:
        pairs = {"greedy": (solved.greedy, start.greedy), "sampled": (solved.sampled, start.sampled)}
        for name, (after_Q, before_Q) in pairs.items():
            gain = paired_bootstrap(after_Q, before_Q, generator=_generator())
            out.append(Measurement(f"gain/{name}", *gain))
    return out


# Discriminators ------------------------------------------------------------------------------------------------


def rank(module: RAIRL, pool: Answered) -> list[Measurement]:
    """AUROC and Best-of-N on the start policy's traces of test questions.

    Args:
        module: with the discriminator.
        pool: Q questions with N traces each.
    """
    tokens = pool.rollouts.tokens
    rewards_NT, grid_NT = module.rewards(tokens), module.reader.granularity(tokens)
    mean_QN = pool.per_question(module.reader.pooling(rewards_NT, grid_NT, tokens.completion_mask))
    least_QN = pool.per_question(Minimum()(rewards_NT, grid_NT, tokens.completion_mask))
    rules = rerank(pool, mean_QN)
    rules["vote"] = rules.pop("weighted")
    del rules["shortest"]  # not among the measures of the table
    rules["reward_min"] = best_of_n(least_QN, pool.correct_QN)
    chosen = [mean_of(f"best_of_{mean_QN.shape[1]}/{name}", values_Q) for name, values_Q in rules.items()]
    return [*_areas(mean_QN, pool.correct_QN), *chosen]


def locate(
    module: RAIRL, questions: Sequence[Demonstration], kinds: Sequence[Perturbation] = UNSEEN, suffix: str = ""
) -> list[Measurement]:
    """Hit@1 of the largest drop on demonstrations corrupted once each.

    Args:
        module: with the discriminator.
        questions: to corrupt.
        kinds: of perturbation.
        suffix: of the metrics' names.
    """
    perturbed = PerturbedDemonstrations(kinds, module.codec)(questions, 1, random.Random("ablation"))
    hits = hits_of(module, perturbed)
    names = {"reward": "hit@1", "logprob_drop": "hit@1_logprob", "chance": "chance"}
    out = [
        mean_of(f"{names[method]}{suffix}/{level}", values_N)
        for method, levels in hits.items()
        for level, values_N in levels.items()
    ]
    for kind in sorted(set(perturbed.kinds)):
        rows = torch.tensor([one == kind for one in perturbed.kinds])
        out.append(mean_of(f"hit@1{suffix}/token/{kind}", hits["reward"]["token"][rows]))
    return out


def hits_of(module: RAIRL, perturbed: Perturbed) -> dict[str, dict[str, Tensor]]:
    """One value for each corrupted demonstration, by method and level."""
    tokens = perturbed.tokens
    logprobs_NT = module.models.policy.score(tokens, MICROBATCH).logprobs
    return localise(perturbed, module.pay(tokens), module.reader.granularity(tokens), logprobs_NT, INTERVAL)


def _areas(scores_QN: Tensor, correct_QN: Tensor) -> list[Measurement]:
    groups_QN = torch.arange(len(scores_QN)).unsqueeze(1).expand_as(scores_QN)

    def pooled(rows_Q: Tensor) -> float:
        return float(auroc(scores_QN[rows_Q].flatten(), correct_QN[rows_Q].flatten()))

    def within(rows_Q: Tensor) -> float:
        # Each drawn question is a group of its own, also where it is drawn twice.
        groups = groups_QN[: len(rows_Q)].flatten()
        return float(grouped_auroc(scores_QN[rows_Q].flatten(), correct_QN[rows_Q].flatten(), groups))

    return [
        _bootstrapped("auroc", pooled, len(scores_QN)),
        _bootstrapped("auroc_within_prompt", within, len(scores_QN)),
    ]


def _bootstrapped(metric: str, figure: Callable[[Tensor], float], count: int) -> Measurement:
    generator = _generator()
    draws = [figure(torch.randint(count, (count,), generator=generator)) for _ in range(RESAMPLES)]
    quantiles = torch.tensor(draws, dtype=torch.float64).nanquantile(torch.tensor([0.025, 0.975]).double())
    return Measurement(metric, figure(torch.arange(count)), *quantiles.tolist())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
