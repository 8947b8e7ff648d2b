"""Who takes part in the policy's update: a round's rollouts, and maybe the demonstration of each prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rairl_lightning.functional.advantages import trajectory_mean
from rairl_lightning.types import Rollouts, TokenBatch


@dataclass(frozen=True)
class GroupMembers:
    """Whole groups, and who in them is a demonstration.

    Attributes:
        traces: the members, those of a prompt adjacent; ``group_size`` counts the demonstration.
        is_expert_N: ``[N]`` bool, True for demonstrations, each the last of its group.
    """

    traces: Rollouts
    is_expert_N: Tensor

    @classmethod
    def rollouts_alone(cls, rollouts: Rollouts) -> GroupMembers:
        """No demonstration is a member."""
        return cls(rollouts, torch.zeros(len(rollouts), dtype=torch.bool, device=rollouts.tokens.device))

    @classmethod
    def with_experts(
        cls, rollouts: Rollouts, experts: TokenBatch, logprobs_BT: Tensor, texts: tuple[str, ...], pad_id: int
    ) -> GroupMembers:
        """The demonstration of each prompt becomes the last of its group, as long as it is: nothing is cut.

        Args:
            rollouts: B·G sampled traces.
            experts: B demonstrations, row b for prompt b.
            logprobs_BT: ``[B, T]`` of the demonstrations under the policy that sampled, at its temperature.
            texts: the demonstrations' B completions.
            pad_id: for padding to a common width.
        """
        size, count = rollouts.group_size, len(rollouts)
        tokens = TokenBatch.cat([rollouts.tokens, experts], pad_id)
        width = tokens.input_ids.shape[1]
        logprobs_NT = torch.cat([F.pad(part, (0, width - part.shape[1])) for part in (rollouts.logprobs, logprobs_BT)])
        own_BG = torch.arange(count, device=tokens.device).reshape(-1, size)
        rows = torch.cat([own_BG, count + torch.arange(len(experts), device=tokens.device)[:, None]], dim=1).flatten()
        joined, *columns = tokens.select_with(rows, logprobs_NT)
        finished = torch.cat([rollouts.finished, torch.ones_like(rollouts.finished[: len(experts)])])[rows]
        both = (*rollouts.texts, *texts)
        traces = Rollouts(joined, columns[0], finished, tuple(both[row] for row in rows.tolist()), size + 1)
        return cls(traces, rows >= count)

    @property
    def tokens(self) -> TokenBatch:
        """Of all members."""
        return self.traces.tokens

    @property
    def rollouts_a_prompt(self) -> int:
        """G, the demonstration not counted."""
        return self.traces.group_size - int(self.is_expert_N.any())

    def split_means(self, values_NT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over each trace's completion: of the rollouts, and of the demonstrations."""
        means_N = trajectory_mean(values_NT, self.tokens.completion_mask)
        return means_N[~self.is_expert_N], means_N[self.is_expert_N]
