"""What the players saw in the forward passes of an update, before they learnt from it; all processes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rairl_lightning.algorithms.labelled import LabelledTraces
from rairl_lightning.functional import processes
from rairl_lightning.functional.discriminator import discriminator_statistics, per_trace_weights
from rairl_lightning.functional.importance import gap_statistics
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.functional.ranking import auroc, grouped_auroc


class SeenByDiscriminator:
    """Scores and logits of the traces of one update; a trace that comes in two micro-batches counts once."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.sums: dict[str, Tensor] = {}

    def expect(
        self, drawn: LabelledTraces, batches: Sequence[Tensor], positions_M: Tensor, weights_M: Tensor | None
    ) -> None:
        """Announce an update.

        Args:
            drawn: its M traces.
            batches: rows of its micro-batches, those of all processes.
            positions_M: ``[M]`` scored positions.
            weights_M: ``[M]`` of a loss that weighs positions by themselves; None compares traces, and counts those
                that come alike.
        """
        self.drawn, labels_M = drawn, drawn.labels_expert_is_one_M
        self.awaited_M = torch.zeros(len(drawn), dtype=torch.bool, device=drawn.tokens.device)
        self.awaited_M[torch.cat(list(batches))] = True
        self.weights_M = per_trace_weights(labels_M, positions_M * self.awaited_M) if weights_M is None else weights_M
        self.awaited_M[processes.earlier(batches, drawn.rivals_M if weights_M is None else None)] = False
        nothing = torch.zeros(0, 1, device=drawn.tokens.device)  # a process may get no micro-batch; it has sums too
        self.add(torch.zeros(0, dtype=torch.int64, device=nothing.device), nothing, nothing, nothing.bool())

    @torch.no_grad()
    def add(self, rows: Tensor, pay_NT: Tensor, logits_NT: Tensor, grid_NT: Tensor) -> None:
        """One micro-batch: what the policy would be paid, and the logits."""
        new, labels_N = self.awaited_M[rows], self.drawn.labels_expert_is_one_M[rows]
        self.awaited_M[rows] = False
        self.rows.append(rows[new])
        self.scores.append(masked_mean(pay_NT, grid_NT, dim=1)[new])
        for name, value in discriminator_statistics(logits_NT, labels_N, grid_NT, self.weights_M[rows] * new).items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def add_penalty(self, share: Tensor) -> None:
        """Share of one micro-batch in the gradient penalty."""
        self.sums["penalty"] = self.sums.get("penalty", 0.0) + share.detach()

    def statistics(self) -> dict[str, float]:
        """Accuracy and mean logit of each class, and the AUROC of the traces' mean pay, overall and within prompts."""
        rows, scores = processes.joined(torch.cat(self.rows)), processes.joined(torch.cat(self.scores))
        sums = dict(zip(self.sums, processes.summed(*self.sums.values()), strict=True))
        labels = self.drawn.labels_expert_is_one_M[rows]
        areas = {
            "auroc": auroc(scores, labels),
            "auroc_within_prompt": grouped_auroc(scores, labels, self.drawn.prompts_M[rows]),
        }
        return {name: float(value) for name, value in {**sums, **areas}.items()}


@dataclass
class SeenByPolicy:
    """Weighted sums of the policy's loss over a round, and how far its log-probabilities lay from the sampler's.

    Of rollouts alone: a demonstration in the group was not sampled.

    Attributes:
        has_moved: whether the policy has been updated in this round; what then parts it from the sampler is no gap.
    """

    has_moved: bool = False
    totals: dict[str, Tensor] = field(default_factory=dict)
    trainer: list[Tensor] = field(default_factory=list)
    sampler: list[Tensor] = field(default_factory=list)

    def add(self, statistics: Mapping[str, Tensor]) -> None:
        """Sums of one micro-batch of any update, ``weight`` among them."""
        for name, value in statistics.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def compare(self, trainer_NT: Tensor, sampler_NT: Tensor, completion_mask_NT: Tensor) -> None:
        """Log-probabilities of one micro-batch."""
        if self.has_moved:
            return
        self.trainer.append(trainer_NT.detach()[completion_mask_NT])
        self.sampler.append(sampler_NT[completion_mask_NT])

    def statistics(self) -> dict[str, float]:
        """``policy/…``: the round's means; ``sampler/…``: the gap."""
        totals = dict(zip(self.totals, processes.summed(*self.totals.values()), strict=True))
        weight = totals.pop("weight")
        means = {f"policy/{name}": float(value / weight) for name, value in totals.items()}
        trainer, sampler = (processes.joined(torch.cat(parts)).unsqueeze(0) for parts in (self.trainer, self.sampler))
        gaps = gap_statistics(trainer, sampler, torch.ones_like(sampler, dtype=torch.bool))
        return means | {f"sampler/{name}": float(value) for name, value in gaps.items()}
