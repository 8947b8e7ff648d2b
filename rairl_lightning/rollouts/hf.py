"""Sampling through transformers' own forward pass, which any causal language model has.

Every prompt is read once and its keys and values are repeated for its group; rows that have finished leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.models import Policy
from rairl_lightning.rollouts.stepwise import Decoding, StepwiseSampler


@dataclass(frozen=True)
class HFSampler(StepwiseSampler):
    """Samples through transformers' own forward pass.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_rows: rows decoded at once; None takes all.
        compact_below: when the unfinished share of the rows falls below this, the others leave; 0 keeps them.
    """

    def decoding(self, policy: Policy, pad_id: int) -> Callable[[Sequence[Sequence[int]], int], Decoding]:
        """See :class:`StepwiseSampler`."""
        return lambda prompts, count: RepeatedCache(policy, prompts, count, self.max_new_tokens, pad_id)


class RepeatedCache:
    """The rows still being decoded, with their keys and values."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], count: int, room: int, pad_id: int) -> None:
        self.decoder, self.head, self.cache = policy.decoder, policy.lm_head, policy.new_cache()
        self.width = max(map(len, prompts))
        # Prompts end in the same column, so that all rows write their next token into the same one.
        ids = torch.tensor([[pad_id] * (self.width - len(prompt)) + list(prompt) for prompt in prompts])
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        mask = torch.arange(self.width) >= self.width - lengths[:, None]
        ids, lengths, mask = (tensor.to(policy.device) for tensor in (ids, lengths, mask))
        positions = (mask.long().cumsum(1) - 1).clamp_(min=0)
        logits = self._read(ids, mask.long(), positions)
        if count > 1:
            self.cache.batch_repeat_interleave(count)
        self.logits = logits.repeat_interleave(count, dim=0)
        self.mask = torch.nn.functional.pad(mask.long(), (0, room), value=1).repeat_interleave(count, dim=0)
        self.positions = lengths.repeat_interleave(count)[:, None]
        self.rows = torch.arange(len(prompts) * count, device=policy.device)

    def keep(self, kept: Tensor) -> None:
        """Drop all rows but ``kept``."""
        self.cache.batch_select_indices(kept)
        self.mask, self.positions, self.rows = self.mask[kept], self.positions[kept], self.rows[kept]

    def append(self, tokens: Tensor) -> None:
        """Read one more token of every row."""
        self.width += 1
        self.logits = self._read(tokens[:, None], self.mask[:, : self.width], self.positions)
        self.positions = self.positions + 1

    def _read(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        hidden = self.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True
        ).last_hidden_state
        return self.head(hidden[:, -1]).float()
