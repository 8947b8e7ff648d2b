"""The discriminator D_φ: a decoder with a head whose logit is high for experts."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.errors import ModelError
from rairl_lightning.models.budget import map_rows, micro_batches
from rairl_lightning.models.heads import HeadInputs
from rairl_lightning.models.modes import evaluating
from rairl_lightning.models.policy import hidden_states
from rairl_lightning.types import TokenBatch


class Discriminator(nn.Module):
    """Reads a trace and says at every token how expert-like it is so far.

    Args:
        model: a decoder without language-model head, or PEFT's wrapper around it.
        head: built by a :class:`~rairl_lightning.models.heads.HeadSpec`; kept in float32.
        lm_head: the base's language-model head, if the head reads it.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, head: nn.Module, lm_head: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.head = head.float()
        self.lm_head = lm_head

    @property
    def decoder(self) -> PreTrainedModel:
        """The decoder itself, adapters injected, without PEFT's wrapper."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.head.parameters()).device

    @property
    def attention(self) -> str:
        """Name of the attention kernel, as transformers calls it."""
        return self.decoder.config._attn_implementation

    @property
    def context(self) -> int | None:
        """Positions the decoder was made for; None if its configuration does not say."""
        return getattr(self.decoder.config, "max_position_embeddings", None)

    def embed(self, tokens: TokenBatch) -> Tensor:
        """Input embeddings, ``[N, T, H]``."""
        return self.decoder.get_input_embeddings()(tokens.input_ids)

    def forward(self, tokens: TokenBatch, embeddings_NTH: Tensor | None = None) -> Tensor:
        """Logits, high for experts.

        Args:
            tokens: N traces, padded on either side.
            embeddings_NTH: read in the place of the tokens' own, by the head too.

        Returns:
            ``[N, T]`` float32 (the head may add trailing dimensions); meaningful where ``attention_mask`` is True.
        """
        hidden_NTH = hidden_states(self.decoder, tokens, embeddings_NTH)
        with torch.autocast(hidden_NTH.device.type, enabled=False):
            embedding = self.decoder.get_input_embeddings() if embeddings_NTH is None else lambda _: embeddings_NTH
            return self.head(HeadInputs(hidden_NTH.float(), tokens, embedding, self._lm_logits))

    def micro_batches(self, tokens: TokenBatch, max_tokens: int) -> list[Tensor]:
        """Rows of each micro-batch: traces of one prompt together, counted as the model reads them.

        Args:
            tokens: N traces.
            max_tokens: that the model reads at once: a prompt once and no padding, where the model allows it.
        """
        return micro_batches(self.decoder, tokens, max_tokens)

    @torch.no_grad()
    def score(self, tokens: TokenBatch, max_tokens: int) -> Tensor:
        """:meth:`forward` without gradient, in evaluation mode and in micro-batches.

        Args:
            tokens: N traces.
            max_tokens: of a micro-batch.

        Returns:
            ``[N, T]`` float32 in the order of ``tokens``, 0 on padding.
        """
        if not len(tokens):
            return torch.zeros(tokens.input_ids.shape, device=tokens.device)
        with evaluating(self):
            (logits,) = map_rows(lambda part: (self(part),), tokens, self.micro_batches(tokens, max_tokens))
        padding = (~tokens.attention_mask).reshape(*tokens.attention_mask.shape, *[1] * (logits.dim() - 2))
        return logits.masked_fill(padding, 0.0)

    def _lm_logits(self, hidden_MH: Tensor) -> Tensor:
        if self.lm_head is None:
            raise ModelError("The head reads a language-model head, but its spec does not ask for one.")
        return self.lm_head(hidden_MH.to(next(self.lm_head.parameters()).dtype))
