"""Sampling with one copy of every prompt's keys and values, in as few operations as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rairl_lightning.models import Policy
from rairl_lightning.models.decoding import HeldWeights, Native, Session, lean_decoder
from rairl_lightning.rollouts.hf import RepeatedCache
from rairl_lightning.rollouts.stepwise import Decoding, StepwiseSampler


@dataclass(frozen=True)
class SharedPrefixSampler(StepwiseSampler):
    """Samples models of the Llama shape (Llama, Mistral, Qwen2, Qwen3) by a pass of our own, others as HFSampler does.

    The keys and values of a prompt are read by all its samples together and never repeated, and rows that have finished
    leave; time follows the tokens that are really drawn.

    Attributes:
        max_new_tokens: longest completion, end of turn included.
        temperature: τ ≥ 0; 0 takes the most probable token and records its log-probability at τ = 1.
        top_p: nucleus in (0, 1]; keep 1 for training, where the trainer's distribution must be the sampler's.
        max_rows: rows decoded at once; None takes all.
        compact_below: when the unfinished share of the rows falls below this, the others leave; 0 keeps them.
        weights: how the weights are held meanwhile: ``Native`` (compiled code on a CPU in float32; ``Packed`` without a
            C++ compiler, ``InPlace`` where neither suits, as on a GPU), ``Packed``, ``InPlace``, ``DynamicInt8``.
    """

    weights: HeldWeights = field(default_factory=Native)
    shares_prompts: ClassVar[bool] = True

    def decoding(self, policy: Policy, pad_id: int) -> Callable[[Sequence[Sequence[int]], int], Decoding]:
        """See :class:`StepwiseSampler`."""
        decoder = lean_decoder(policy, self.weights)
        if decoder is None:
            return lambda prompts, count: RepeatedCache(policy, prompts, count, self.max_new_tokens, pad_id)
        return lambda prompts, count: Session(decoder, prompts, count, pad_id, policy.device)
