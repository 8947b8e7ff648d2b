"""The policy π_θ, and the frozen reference π_ref it is kept close to."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import Cache, PreTrainedModel

from rairl_lightning.errors import ModelError
from rairl_lightning.functional.logprobs import TokenStatistics, gathered_logprobs
from rairl_lightning.functional.shards import is_sharded, local
from rairl_lightning.models.budget import map_rows, micro_batches
from rairl_lightning.models.cache import growing_cache
from rairl_lightning.models.kernels.lora import adapted
from rairl_lightning.models.modes import evaluating
from rairl_lightning.models.packed_reading import packed_hidden_states, packs
from rairl_lightning.types import TokenBatch

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as floating-point ones, in bytes."""


def hidden_states(decoder: nn.Module, tokens: TokenBatch, embeddings_NTH: Tensor | None = None) -> Tensor:
    """Last hidden states ``[N, T, H]``; the result at real tokens does not depend on the padding.

    Args:
        decoder: embedding, blocks and final norm.
        tokens: N traces.
        embeddings_NTH: read in the place of the ids' own.
    """
    if embeddings_NTH is None and len(tokens) and packs(decoder):
        return packed_hidden_states(decoder, tokens)
    inputs = {"input_ids": tokens.input_ids} if embeddings_NTH is None else {"inputs_embeds": embeddings_NTH}
    return decoder(
        **inputs,
        attention_mask=tokens.attention_mask.long(),
        position_ids=tokens.position_ids,
        use_cache=False,
    ).last_hidden_state


class Policy(nn.Module):
    """A causal language model read through its hidden states, so that ``[N, T, V]`` logits never exist.

    Args:
        model: the language model, or PEFT's wrapper around it.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        super().__init__()
        self.model = model
        self.units: tuple[FSDPModule, ...] = ()
        self.roots: tuple[FSDPModule, ...] = ()

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights alone."""
        return bool(self.units)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All weights in every process, so that each may make as many passes as it likes; for sampling.

        Collective for a sharded policy. No gradient may be asked for within.
        """
        with torch.no_grad():
            for unit in self.units:
                unit.set_reshard_after_forward(False, recurse=False)
                unit.unshard()
        try:
            yield
        finally:
            for unit in self.units:
                unit.set_reshard_after_forward(True, recurse=False)
            for root in self.roots:
                # Puts the weights away, and forgets the passes, of which each process has made another number: what
                # FSDP2 gathers ahead in a backward pass it takes from their order, and all must gather the same.
                root.reset_iter_state()

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The language model itself, adapters injected, without PEFT's wrapper."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def decoder(self) -> nn.Module:
        """Embedding, blocks and final norm."""
        return self.causal_lm.get_decoder()

    @property
    def lm_head(self) -> nn.Module:
        """Hidden state to logits over the vocabulary."""
        return self.causal_lm.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.model.parameters()).device

    def version(self) -> str:
        """Digest of the weights that learn, in this process: another after every update, the same until the next.

        Sums of their bits, which are taken where they lie: cheap enough to ask before every sampling.
        """
        own = [local(parameter.detach()) for parameter in self.parameters() if parameter.requires_grad]
        sums = [part.contiguous().view(BITS[part.element_size()]).sum(dtype=torch.int64) for part in own]
        return hashlib.sha256(repr(torch.stack(sums).tolist() if sums else []).encode()).hexdigest()[:16]

    def new_cache(self) -> Cache:
        """An empty key-value cache that suits the model's layers."""
        return growing_cache(self.causal_lm.config)

    def logprobs(self, tokens: TokenBatch, temperature: float = 1.0) -> TokenStatistics:
        """Log-probability of each completion token, ``log softmax(z_t / τ)[x_t]``, and the entropy there.

        Args:
            tokens: N traces, padded on either side.
            temperature: τ > 0, the sampler's.

        Returns:
            ``logprobs`` and ``entropy``, each ``[N, T]`` float32, 0 outside the completion; with gradient.
        """
        return gathered_logprobs(
            hidden_states(self.decoder, tokens),
            tokens.input_ids,
            tokens.completion_mask,
            self.lm_head,
            temperature=temperature,
        )

    def forward(self, tokens: TokenBatch, temperature: float = 1.0) -> TokenStatistics:
        """The same as :meth:`logprobs`."""
        return self.logprobs(tokens, temperature)

    def micro_batches(self, tokens: TokenBatch, max_tokens: int) -> list[Tensor]:
        """Rows of each micro-batch: traces of one prompt together, counted as the model reads them.

        Args:
            tokens: N traces.
            max_tokens: that the model reads at once: a prompt once and no padding, where the model allows it.
        """
        return micro_batches(self.decoder, tokens, max_tokens)

    @torch.no_grad()
    def score(self, tokens: TokenBatch, max_tokens: int, temperature: float = 1.0) -> TokenStatistics:
        """:meth:`logprobs` without gradient, in evaluation mode and in micro-batches.

        Args:
            tokens: N traces.
            max_tokens: of a micro-batch.
            temperature: τ > 0.

        Returns:
            As :meth:`logprobs`, in the order of ``tokens``.
        """
        if not len(tokens):
            nothing = torch.zeros(tokens.input_ids.shape, device=tokens.device)
            return TokenStatistics(nothing, nothing)
        groups = self.micro_batches(tokens, max_tokens)
        with evaluating(self):
            return TokenStatistics(*map_rows(lambda part: self.logprobs(part, temperature), tokens, groups))


class Reference(Policy):
    """A policy that never learns: the base itself, or a frozen copy of the policy at some point.

    Args:
        model: a language model that no one trains.
        lora: the policy's adapter configuration; None if the policy trains all its weights.
    """

    def __init__(self, model: PreTrainedModel, lora: LoraConfig | None = None) -> None:
        super().__init__(model.requires_grad_(False))
        self._lora = lora
        self.anchored = False

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a copied adapter may have dropout."""
        return super().train(False)

    def prepare_anchor(self) -> None:
        """Let the reference have weights that differ from the base's."""
        self.make_room()
        self.anchored = True

    def make_room(self) -> None:
        """Add an adapter, which changes nothing until weights are loaded into it.

        Raises:
            ModelError: the layers are in shards already.
        """
        if self._lora is not None and not isinstance(self.model, PeftModel):
            if any(map(is_sharded, self.parameters())):
                raise ModelError(
                    "The reference was sharded without room for an adapter.",
                    expected="a run whose SFT initialisation the reference is anchored after",
                    got="sft.epochs: 0",
                    remedy="set model.sft.epochs as in the run the checkpoint is of, or use --trainer.strategy ddp",
                )
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):  # the initial adapter is overwritten; its draws leave no trace
                self.model = adapted(self.model, copy.deepcopy(self._lora))
            self.requires_grad_(False).eval()

    @torch.no_grad()
    def logprobs(self, tokens: TokenBatch, temperature: float = 1.0) -> TokenStatistics:
        """As :meth:`Policy.logprobs`, without gradient."""
        return super().logprobs(tokens, temperature)
