"""The discriminator's side of a round: who is a positive, who a negative, and which of them an update sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rairl_lightning.functional.batching import local_rivals
from rairl_lightning.types import Rollouts, TokenBatch, TrainBatch


@dataclass(frozen=True)
class LabelledTraces:
    """Traces with the discriminator's target.

    Attributes:
        tokens: M traces.
        labels_expert_is_one_M: ``[M]`` bool, True for positives.
        rivals_M: ``[M]`` int64, row of the demonstration of each trace's prompt; -1 for demonstrations and replayed
            traces, and where the demonstration is not among the traces.
        old_logprobs_MT: ``[M, T]`` under the policy that sampled; None where no one reads them.
    """

    tokens: TokenBatch
    labels_expert_is_one_M: Tensor
    rivals_M: Tensor
    old_logprobs_MT: Tensor | None = None

    @classmethod
    def of_round(cls, batch: TrainBatch, rollouts: Rollouts, positive_N: Tensor, pad_id: int) -> LabelledTraces:
        """Demonstrations and positive rollouts against the remaining, the replayed and the perturbed traces.

        Args:
            batch: the round's demonstrations and negatives.
            rollouts: N sampled traces.
            positive_N: ``[N]`` bool from the labelling.
            pad_id: for padding to a common width.
        """
        experts, negatives = batch.experts, batch.perturbed
        prompts_N = torch.arange(len(rollouts), device=experts.device) // rollouts.group_size
        parts = (experts, rollouts.tokens, batch.replayed, negatives.tokens)

        def column(*values: Tensor | bool | int) -> Tensor:
            pairs = zip(parts, values, strict=True)
            return torch.cat([torch.as_tensor(v, device=experts.device).expand(len(tokens)) for tokens, v in pairs])

        labels, rivals = column(True, positive_N, False, False), column(-1, prompts_N, -1, negatives.sources)
        return cls(TokenBatch.cat(parts, pad_id), labels, rivals)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def prompts_M(self) -> Tensor:
        """Row of the demonstration of each trace's prompt, for a demonstration its own, ``[M]``; -1 for none."""
        rows_M = torch.arange(len(self), device=self.rivals_M.device)
        return torch.where(torch.isin(rows_M, self.rivals_M), rows_M, self.rivals_M)

    def with_logprobs(self, old_logprobs_MT: Tensor) -> LabelledTraces:
        """The same with the sampling policy's log-probabilities."""
        return replace(self, old_logprobs_MT=old_logprobs_MT)

    def part(self, rows: Tensor) -> tuple[TokenBatch, Tensor | None]:
        """Tokens and, where there are any, log-probabilities of some rows."""
        if self.old_logprobs_MT is None:
            return self.tokens.select(rows), None
        tokens, *old_logprobs = self.tokens.select_with(rows, self.old_logprobs_MT)
        return tokens, old_logprobs[0]

    def draw(self, count: int | None, generator: torch.Generator, keep_pairs: bool = False) -> LabelledTraces:
        """Some traces without replacement, half of them positive where there are enough.

        Args:
            count: how many; None takes all.
            generator: on the traces' device.
            keep_pairs: add the demonstrations of what was drawn, beyond ``count``.
        """
        if count is None or count >= len(self):
            return self
        shuffled = torch.randperm(len(self), generator=generator, device=generator.device)
        positive = shuffled[self.labels_expert_is_one_M[shuffled]]
        negative = shuffled[~self.labels_expert_is_one_M[shuffled]]
        half = count // 2
        take = min(len(positive), max(half, count - len(negative)))
        rows = torch.cat([positive[:take], negative[: count - take]])
        if keep_pairs:
            wanted = self.rivals_M[rows].unique()
            rows = torch.cat([rows, wanted[(wanted >= 0) & ~torch.isin(wanted, rows)]])
        tokens, old_logprobs = self.part(rows)
        labels, rivals = self.labels_expert_is_one_M[rows], local_rivals(self.rivals_M, rows)
        return LabelledTraces(tokens, labels, rivals, old_logprobs)
