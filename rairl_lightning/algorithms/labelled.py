"""The discriminator's side of a round: who is a positive, who a negative, and which of them an update sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
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
        is_perturbed_M: ``[M]`` bool, True for perturbed demonstrations.
        old_logprobs_MT: ``[M, T]`` under the policy that sampled; None where no one reads them.
    """

    tokens: TokenBatch
    labels_expert_is_one_M: Tensor
    rivals_M: Tensor
    is_perturbed_M: Tensor
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
        return cls(TokenBatch.cat(parts, pad_id), labels, rivals, column(False, False, False, True))

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

    @property
    def perturbed_share(self) -> float:
        """Share of the negatives that are perturbed demonstrations, in [0, 1]; NaN without negatives."""
        return float(self.is_perturbed_M[~self.labels_expert_is_one_M].float().mean())

    def rows(self, rows: Tensor) -> LabelledTraces:
        """Some traces, in the order given."""
        tokens, old_logprobs = self.part(rows)
        labels, rivals = self.labels_expert_is_one_M[rows], local_rivals(self.rivals_M, rows)
        return LabelledTraces(tokens, labels, rivals, self.is_perturbed_M[rows], old_logprobs)


@dataclass(frozen=True)
class Draw:
    """Which of a round's traces an update sees.

    Attributes:
        count: how many, half of them positive where there are enough, >= 2; None takes all.
        perturbed_share: s in [0, 1], of the negatives drawn, that are perturbed demonstrations: ``round(s n)`` of n.
            Where one kind has too few, a counted draw takes what there is and fills up with the other; a draw of all
            takes the largest n that keeps the share, and all negatives where the kind asked for is not there. None
            draws negatives of all kinds alike.

    Raises:
        ConfigError: a value is out of range.
    """

    count: int | None = None
    perturbed_share: float | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 2:
            raise ConfigError(
                "A discriminator update needs traces of both classes.",
                expected="discriminator_batch >= 2, or null for all of the round",
                got=self.count,
            )
        if self.perturbed_share is not None:
            check_number("perturbed_share", self.perturbed_share, at_least=0, at_most=1)

    def __call__(
        self, labelled: LabelledTraces, generator: torch.Generator, keep_pairs: bool = False
    ) -> LabelledTraces:
        """Draw without replacement.

        Args:
            labelled: M traces.
            generator: on the traces' device.
            keep_pairs: add the demonstrations of what was drawn, beyond ``count``.
        """
        everything = self.count is None or self.count >= len(labelled)
        if everything and self.perturbed_share is None:
            return labelled
        shuffled = torch.randperm(len(labelled), generator=generator, device=generator.device)
        positive = shuffled[labelled.labels_expert_is_one_M[shuffled]]
        negative = shuffled[~labelled.labels_expert_is_one_M[shuffled]]
        take, left = len(positive), None
        if self.count is not None and not everything:
            take = min(len(positive), max(self.count // 2, self.count - len(negative)))
            left = self.count - take
        rows = torch.cat([positive[:take], self._negatives(negative, labelled.is_perturbed_M, left)])
        if keep_pairs:
            wanted = labelled.rivals_M[rows].unique()
            rows = torch.cat([rows, wanted[(wanted >= 0) & ~torch.isin(wanted, rows)]])
        return labelled.rows(rows)

    def _negatives(self, shuffled: Tensor, is_perturbed_M: Tensor, count: int | None) -> Tensor:
        """The first ``count`` in the share asked for; of None as many as keep it."""
        if self.perturbed_share is None:
            return shuffled[:count]
        perturbed, others = shuffled[is_perturbed_M[shuffled]], shuffled[~is_perturbed_M[shuffled]]
        if count is None:
            count = _most_with_share(len(perturbed), len(others), self.perturbed_share)
        own = min(len(perturbed), max(round(self.perturbed_share * count), count - len(others)))
        return torch.cat([perturbed[:own], others[: count - own]])


def _most_with_share(perturbed: int, others: int, share: float) -> int:
    """Largest number of which ``share`` can be perturbed and the rest not; all of them where that is none.

    >>> _most_with_share(4, 30, 0.25), _most_with_share(4, 3, 0.25), _most_with_share(0, 3, 0.25)
    (16, 4, 3)
    """
    limits = [have / part for have, part in ((perturbed, share), (others, 1 - share)) if part > 0]
    return int(min(limits) + 1e-9) or perturbed + others
