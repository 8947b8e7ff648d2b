"""A sampling loop over the Hugging Face model itself.

Every prompt is read once and its keys and values are repeated for its group; rows that have finished leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.models.modes import evaluating
from rairl_lightning.rollouts.base import PartOfDraws, Sampler, uniforms
from rairl_lightning.types import Rollouts, TokenBatch


@dataclass(frozen=True)
class HFSampler(Sampler):
    """Samples with the policy's own weights, in process.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_rows: rows decoded at once; None takes all.
        compact_below: when the unfinished share of the rows falls below this, the others leave; 0 keeps them.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    max_rows: int | None = None
    compact_below: float = 0.8

    def __post_init__(self) -> None:
        bounds = {
            "max_new_tokens": (self.max_new_tokens >= 1, ">= 1"),
            "temperature": (self.temperature >= 0, ">= 0"),
            "top_p": (0 < self.top_p <= 1, "0 < top_p <= 1"),
            "max_rows": (self.max_rows is None or self.max_rows >= 1, ">= 1 or null"),
            "compact_below": (0 <= self.compact_below <= 1, "0 <= compact_below <= 1"),
        }
        for name, (holds, expected) in bounds.items():
            if not holds:
                raise ConfigError(f"{name} is out of range.", expected=expected, got=getattr(self, name))

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator | PartOfDraws,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """See :meth:`Sampler.sample`."""
        if any(len(prompt) == 0 for prompt in prompts):
            raise DataError("A prompt has no tokens.", remedy="encode prompts with the codec")
        heat = self.temperature if temperature is None else temperature
        drawn: list[tuple[list[int], Tensor]] = []
        # All draws come first: they then depend neither on when rows finish, nor on compaction, nor on the passes.
        uniforms_TN = uniforms(generator, self.max_new_tokens, len(prompts), group_size).to(policy.device)
        with evaluating(policy), torch.inference_mode():
            for part, count in self._passes(prompts, group_size):
                own_TN = uniforms_TN[:, len(drawn) : len(drawn) + len(part) * count]
                drawn += self._decode(policy, part, count, codec, own_TN, heat)
        return collect(prompts, drawn, group_size, codec, policy.device)

    def _passes(
        self, prompts: Sequence[Sequence[int]], group_size: int
    ) -> Iterator[tuple[Sequence[Sequence[int]], int]]:
        """Yield prompts and how many samples of each, in the order of the rows, at most ``max_rows`` at a time."""
        limit = self.max_rows or max(1, len(prompts)) * group_size
        together, share = max(1, limit // group_size), min(group_size, limit)
        for first in range(0, len(prompts), together):
            for done in range(0, group_size, share):
                yield prompts[first : first + together], min(share, group_size - done)

    def _decode(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        count: int,
        codec: TraceCodec,
        uniforms_TN: Tensor,
        temperature: float,
    ) -> list[tuple[list[int], Tensor]]:
        batch = _Batch(policy, prompts, count, self.max_new_tokens, codec.pad_id)
        ids_TN = torch.full(uniforms_TN.shape, codec.pad_id, device=policy.device)
        logprobs_TN = torch.zeros(uniforms_TN.shape, device=policy.device)
        alive = torch.ones(len(batch.rows), dtype=torch.bool, device=policy.device)
        for step, uniforms_N in enumerate(uniforms_TN):
            tokens, logprobs = draw(batch.logits, uniforms_N[batch.rows], temperature, self.top_p)
            ids_TN[step, batch.rows] = tokens
            logprobs_TN[step, batch.rows] = logprobs
            alive &= tokens != codec.eos_id
            remaining = int(alive.sum())
            if remaining == 0 or step + 1 == self.max_new_tokens:
                break
            if remaining < self.compact_below * len(alive):
                kept = alive.nonzero().squeeze(1)
                batch.keep(kept)
                tokens, alive = tokens[kept], alive[kept]
            batch.append(tokens)
        return _cut(ids_TN.T, logprobs_TN.T, step + 1, codec.eos_id)


class _Batch:
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


def draw(logits_NV: Tensor, uniforms_N: Tensor, temperature: float, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution ``softmax(z / τ)``.

    Args:
        logits_NV: ``[N, V]`` float32.
        uniforms_N: ``[N]`` in (0, 1].
        temperature: τ ≥ 0; 0 takes the largest logit.
        top_p: nucleus.

    Returns:
        Tokens ``[N]`` and their log-probabilities ``[N]`` under the distribution drawn from (τ = 1 if greedy).
    """
    if temperature == 0:
        largest = logits_NV.max(dim=-1)
        return largest.indices, largest.values - logits_NV.logsumexp(dim=-1)
    scaled_NV = logits_NV if temperature == 1 else logits_NV / temperature
    if top_p < 1:
        scaled_NV = _nucleus(scaled_NV, top_p)
    logprobs_NV = scaled_NV - scaled_NV.logsumexp(dim=-1, keepdim=True)
    cumulative_NV = logprobs_NV.exp().cumsum_(dim=-1)
    # Scaled by the rounded total, a uniform in (0, 1] always lands on a token that has probability.
    tokens_N1 = torch.searchsorted(cumulative_NV, uniforms_N[:, None] * cumulative_NV[:, -1:])
    return tokens_N1.squeeze(1), logprobs_NV.gather(1, tokens_N1).squeeze(1)


def _nucleus(scaled_NV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most probable tokens that reaches ``top_p``."""
    ordered = scaled_NV.sort(dim=-1, descending=True)
    probabilities = ordered.values.softmax(dim=-1)
    beyond = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return scaled_NV.masked_fill(beyond.scatter(1, ordered.indices, beyond), -torch.inf)


def _cut(ids_NT: Tensor, logprobs_NT: Tensor, steps: int, eos_id: int) -> list[tuple[list[int], Tensor]]:
    """End each row after its first end of turn."""
    ids_NT, logprobs_NT = ids_NT[:, :steps].cpu(), logprobs_NT[:, :steps].cpu()
    stopped = ids_NT == eos_id
    lengths = torch.where(stopped.any(dim=1), stopped.long().argmax(dim=1) + 1, steps).tolist()
    return [(ids_NT[n, :length].tolist(), logprobs_NT[n, :length]) for n, length in enumerate(lengths)]


def collect(
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[tuple[list[int], Tensor]],
    group_size: int,
    codec: TraceCodec,
    device: torch.device,
) -> Rollouts:
    """Rollouts of what was drawn.

    Args:
        prompts: B of them.
        drawn: ids of each of the B·G completions, and their log-probabilities on the CPU.
        group_size: G.
        codec: says where steps end and what the text is.
        device: where the rollouts go.
    """
    traces, texts = [], []
    for row, (ids, _) in enumerate(drawn):
        trace, text = codec.trace(prompts[row // group_size], ids)
        traces.append(trace)
        texts.append(text)
    tokens = TokenBatch.from_traces(traces, codec.pad_id)
    logprobs_NT = torch.zeros(tokens.input_ids.shape)
    if drawn:
        logprobs_NT[tokens.completion_mask] = torch.cat([values for _, values in drawn])
    finished = torch.tensor([ids[-1] == codec.eos_id for ids, _ in drawn], dtype=torch.bool)
    return Rollouts(tokens.to(device), logprobs_NT.to(device), finished.to(device), tuple(texts), group_size)
