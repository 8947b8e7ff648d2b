"""The discriminator's side of a round: who is a positive, who a negative, and which of them an update sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.types import Rollouts, TokenBatch, TrainBatch


@dataclass(frozen=True)
class LabelledTraces:
    """Traces with the discriminator's target.

    Attributes:
        tokens: M traces.
        labels_expert_is_one_M: ``[M]`` bool, True for positives.
    """

    tokens: TokenBatch
    labels_expert_is_one_M: Tensor

    @classmethod
    def of_round(cls, batch: TrainBatch, rollouts: Rollouts, positive_N: Tensor, pad_id: int) -> LabelledTraces:
        """Demonstrations and positive rollouts against the remaining, the replayed and the perturbed traces.

        Args:
            batch: the round's demonstrations and negatives.
            rollouts: N sampled traces.
            positive_N: ``[N]`` bool from the labelling.
            pad_id: for padding to a common width.
        """
        parts = [
            (batch.experts, True),
            (rollouts.tokens, positive_N),
            (batch.replayed, False),
            (batch.perturbed.tokens, False),
        ]
        labels = [torch.as_tensor(label, device=tokens.device).expand(len(tokens)) for tokens, label in parts]
        return cls(TokenBatch.cat((tokens for tokens, _ in parts), pad_id), torch.cat(labels))

    def __len__(self) -> int:
        return len(self.tokens)

    def draw(self, count: int | None, generator: torch.Generator) -> LabelledTraces:
        """Up to ``count`` traces without replacement, half of them positive where there are enough; None: all."""
        if count is None or count >= len(self):
            return self
        shuffled = torch.randperm(len(self), generator=generator, device=generator.device)
        positive = shuffled[self.labels_expert_is_one_M[shuffled]]
        negative = shuffled[~self.labels_expert_is_one_M[shuffled]]
        half = count // 2
        take = min(len(positive), max(half, count - len(negative)))
        rows = torch.cat([positive[:take], negative[: count - take]])
        return LabelledTraces(self.tokens.select(rows), self.labels_expert_is_one_M[rows])
