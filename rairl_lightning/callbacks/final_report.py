"""The result of a run on the test split, with intervals, beside every baseline: tables and one JSON file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from rairl_lightning.algorithms.phases import Phase
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.algorithms.sft import SFT
from rairl_lightning.algorithms.supervised import BestEpoch, sft_for
from rairl_lightning.callbacks.periodic import answered_by
from rairl_lightning.components.pooling import TokenWeighted
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.localisation import localise
from rairl_lightning.evaluation.provenance import commit
from rairl_lightning.evaluation.reranking import rerank, reward_auroc
from rairl_lightning.evaluation.sampling import Answered
from rairl_lightning.evaluation.summary import Figures, interval, print_summary, write_summary
from rairl_lightning.functional.bootstrap import percentile_interval, resampled_counts
from rairl_lightning.functional.processes import agreed
from rairl_lightning.functional.ranking import random_choice, resampled_auroc
from rairl_lightning.module import RAIRL
from rairl_lightning.types import Demonstration

EPOCHS_COMPARED = 16  # at most so many, evenly spread over the time of the continued SFT


class FinalReport(Callback):
    """Compares SFT, SFT continued for the same wall time, and R-AIRL or GRPO, then the three uses of the reward.

    Runs once, after the last round, on test questions that nothing was chosen on; needs an SFT initialisation to
    compare with. The algorithm SFT is reported alone. Best-of-N and localisation use the SFT policy, so that all rules
    choose among the same traces and the reward is not judged on a policy that was trained on it; a baseline lacks
    what a learned reward does. Writes ``summary.json`` into the run folder.

    Args:
        questions: most test questions, >= 1.
        samples: traces of each for the three uses of the reward (N), >= 1.
        policy_samples: traces of each for the pass@1 of the policies after SFT, >= 1.
        interval: tokens of an interval for localisation, >= 1.
        seed: of samples, perturbations and bootstrap.
    """

    def __init__(
        self, questions: int = 256, samples: int = 16, policy_samples: int = 16, interval: int = 15, seed: int = 0
    ) -> None:
        if min(questions, samples, policy_samples, interval) < 1:
            raise ConfigError(
                "FinalReport cannot run with these settings.",
                expected="questions, samples, policy_samples, interval >= 1",
                got=f"{questions}, {samples}, {policy_samples}, {interval}",
            )
        self.questions, self.samples, self.policy_samples = questions, samples, policy_samples
        self.interval, self.seed = interval, seed
        self._seconds: dict[str, float] = {}
        self._phase: Phase | None = None
        self._spent = self._start = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the clock."""
        self._start, self._seconds = time.perf_counter(), {}

    def state_dict(self) -> dict[str, Any]:
        """The time spent so far, which SFT continued must be given too."""
        return {"seconds": dict(self._seconds), "total": time.perf_counter() - self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the clock back by the time spent before the run was resumed."""
        self._start, self._seconds = time.perf_counter() - state_dict["total"], dict(state_dict["seconds"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what was spent before the step, and in which phase it is."""
        if isinstance(pl_module, RoundsModule):
            self._phase, self._spent = pl_module.clock.phase, pl_module.stopwatch.spent

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step to its phase; what callbacks do between steps does not count as training."""
        if isinstance(pl_module, RoundsModule) and self._phase is not None:
            self._add(pl_module.title(self._phase), pl_module.stopwatch.spent - self._spent)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate everything, print the tables, write the JSON."""
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, RoundsModule) or not isinstance(datamodule, DemonstrationDataModule):
            return
        compared = pl_module.models.reference.anchored and pl_module.clock.round > 0
        if not compared and not isinstance(pl_module, SFT):
            rank_zero_info("FinalReport: nothing to compare, this run had no SFT initialisation or no rounds.")
            return
        with trainer.precision_plugin.forward_context():
            summary = self.summary(pl_module, datamodule)  # every process does its part
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "summary.json"
            write_summary(path, summary)
            print_summary(summary)
            rank_zero_info(f"Saved {path}.")

    def summary(self, module: RoundsModule, data: DemonstrationDataModule) -> Figures:
        """All figures; leaves the policy as it was."""
        test = data.examples("test")[: self.questions]
        rates, uses = (self._alone if isinstance(module, SFT) else self._compared)(module, data, test)
        seconds = {"total": time.perf_counter() - self._start, **self._seconds}
        if "RAIRL_INSTALL_SECONDS" in os.environ:
            seconds = {"install": float(os.environ["RAIRL_INSTALL_SECONDS"]), **seconds}
        return {
            "seed": module.seed,
            "commit": commit(),
            "questions": len(test),
            "samples": self.samples,
            "seconds": {name: round(value, 1) for name, value in seconds.items()},
            "pass@1": rates,
            **uses,
        }

    def _alone(
        self, module: RoundsModule, data: DemonstrationDataModule, test: Sequence[Demonstration]
    ) -> tuple[Figures, Figures]:
        """Pass@1 of the SFT policy, and what can be chosen among its traces."""
        with self._timing("evaluation"):
            answered = answered_by(module, test, self.samples, seed=self.seed)
            return {"sft": self._pass_at_1(module, test, answered)}, self._uses(module, data, test, answered)

    def _compared(
        self, module: RoundsModule, data: DemonstrationDataModule, test: Sequence[Demonstration]
    ) -> tuple[Figures, Figures]:
        """Pass@1 of each policy, and the uses of the reward on the SFT policy's traces."""
        pair = module.models
        final = {name: tensor.clone() for name, tensor in pair.adapter_state("policy").items()}
        with self._timing("evaluation"):
            trained = self._pass_at_1(module, test)
        try:
            pair.load_adapter_state("policy", pair.adapter_state("reference"))
            rates, uses = self._alone(module, data, test)
            with self._timing("sft_continued"):
                self._continue_sft(module, data)
            with self._timing("evaluation"):
                continued = self._pass_at_1(module, test)
        finally:  # whatever ends the report, what is saved next is the policy that was trained
            pair.load_adapter_state("policy", final)
        return {**rates, "sft_continued": continued, module.short_name: trained}, uses

    def _pass_at_1(
        self, module: RoundsModule, test: Sequence[Demonstration], sampled: Answered | None = None
    ) -> dict[str, list[float]]:
        sampled = sampled or answered_by(module, test, self.policy_samples, seed=self.seed)
        greedy = answered_by(module, test, 1, seed=self.seed, temperature=0.0)
        return {
            "greedy": interval(random_choice(greedy.correct_QN), self.seed),
            "sampled": interval(random_choice(sampled.correct_QN), self.seed),
        }

    def _uses(
        self, module: RoundsModule, data: DemonstrationDataModule, test: Sequence[Demonstration], answered: Answered
    ) -> Figures:
        """Reranking and localisation, with the SFT policy in place."""
        learned = module if isinstance(module, RAIRL) else None
        rewards_QN = answered.per_question(learned.trace_rewards(answered.rollouts.tokens)) if learned else None
        perturbed = data.perturbed(test, self.seed).to(module.device)
        tokens = perturbed.tokens
        logprobs_NT = module.models.policy.score(tokens, module.max_tokens_per_microbatch).logprobs
        pay_NT, grid_NT = (learned.pay(tokens), learned.reader.granularity(tokens)) if learned else (None, None)
        hits = localise(perturbed, pay_NT, grid_NT, logprobs_NT, self.interval)
        rules = rerank(answered, rewards_QN, pooling=learned.reader.pooling if learned else TokenWeighted())
        areas = {} if rewards_QN is None else {"auroc": self._auroc_interval(answered, rewards_QN)}
        return {
            f"best_of_{self.samples}": {name: interval(values, self.seed) for name, values in rules.items()},
            "hit@1": {
                method: {level: interval(values, self.seed) for level, values in levels.items()}
                for method, levels in hits.items()
            },
            **areas,
        }

    def _auroc_interval(self, answered: Answered, rewards_QN: Tensor, resamples: int = 200) -> list[float]:
        """AUROC over all traces; the interval resamples questions."""
        generator = torch.Generator().manual_seed(self.seed)
        counts = resampled_counts(len(rewards_QN), generator=generator, resamples=resamples)
        questions_M = torch.arange(len(rewards_QN)).repeat_interleave(rewards_QN.shape[1])
        draws = resampled_auroc(rewards_QN.flatten(), answered.correct_QN.flatten(), counts, questions_M)
        area = torch.tensor(reward_auroc(rewards_QN, answered.correct_QN), dtype=torch.float64)
        return [round(value, 4) for value in percentile_interval(area, draws)]

    def _continue_sft(self, module: RoundsModule, data: DemonstrationDataModule) -> None:
        """Train the SFT policy on for as long as warm-up and rounds took; the best selection epoch is kept."""
        spent = sum(self._seconds.get(module.title(phase), 0.0) for phase in (Phase.WARMUP, Phase.ADVERSARIAL))
        spent = min(spent, 1.0) if module.trainer.fast_dev_run else spent  # type: ignore[attr-defined]
        seconds = agreed(spent, module.device)
        factory, _ = module.factories["sft"]
        policy = module.models.policy
        optimizer = factory(module.models.trainable_parameters("policy"))
        loader, best = data.train_dataloader(), BestEpoch(patience=2**31)
        best.offer(self._selection_score(module, data), module.models.adapter_state("policy"))
        pause = seconds / EPOCHS_COMPARED  # evaluating every epoch would take longer than training
        evaluate_at = seconds - pause
        while seconds > 0:
            experts = (batch.experts.to(module.device) for batch in loader)
            limit = module.max_tokens_per_microbatch
            seconds = sft_for(policy, optimizer, experts, seconds, limit, module.gradient_clip)
            if seconds <= max(0.0, evaluate_at):
                best.offer(self._selection_score(module, data), module.models.adapter_state("policy"))
                evaluate_at = seconds - pause
        module.models.load_adapter_state("policy", best.state)

    def _selection_score(self, module: RoundsModule, data: DemonstrationDataModule) -> float:
        """What the SFT initialisation chose its epoch by, so that both are chosen alike."""
        selection = data.examples("selection")
        if module.sft.monitor == "pass@1":
            greedy = answered_by(module, selection, 1, seed=self.seed, temperature=0.0)
            return float(greedy.correct_QN.double().mean())
        batches = [batch.experts.to(module.device) for batch in data.eval_loader("selection")]
        limit = module.max_tokens_per_microbatch
        sums = [module.models.policy.score(experts, limit).logprobs.sum() for experts in batches]
        return float(sum(sums) / sum(experts.completion_mask.sum() for experts in batches))

    @contextmanager
    def _timing(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - start)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
