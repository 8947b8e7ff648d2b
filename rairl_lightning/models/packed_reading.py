"""Models that read packed rows, through transformers' attention interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rairl_lightning.models.packing import Packing
from rairl_lightning.types import TokenBatch

NAME = "rairl_packed"
"""Of the attention, for transformers: scaled dot products, on a packed row if there is one."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in the place of its own; without a packing it is its own."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return packing.attend(query, key, value, kwargs.get("scaling")), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def packs(decoder: nn.Module) -> bool:
    """Whether :func:`packed_hidden_states` may be used."""
    return getattr(decoder.config, "_attn_implementation", None) == NAME


def packed_hidden_states(decoder: nn.Module, tokens: TokenBatch) -> Tensor:
    """Last hidden states ``[N, T, H]``, 0 on padding.

    Args:
        decoder: one that :func:`pack_if_possible` has prepared.
        tokens: N traces, padded on either side.
    """
    packing = Packing.of(tokens)
    hidden_MH = decoder(
        input_ids=packing.ids_M[None],
        attention_mask=torch.empty(1, 1, 1, 1, device=tokens.device),  # four dimensions: transformers makes none
        position_ids=packing.positions_M[None],
        use_cache=False,
        packing=packing,
    ).last_hidden_state[0]
    spread = hidden_MH.index_select(0, packing.places_NT.flatten()).view(*packing.places_NT.shape, -1)
    return spread.masked_fill(~tokens.attention_mask.unsqueeze(-1), 0.0)


@torch.no_grad()
def pack_if_possible(model: PreTrainedModel) -> None:
    """Let a model read packed rows, if that gives what padded rows give; leave it as it was otherwise.

    Only models that leave attention to transformers' interface, with scaled dot products and without windows.
    """
    config = model.config
    windowed = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
    kinds = set(getattr(config, "layer_types", None) or [windowed])
    usual = getattr(model, "_supports_attention_backend", False) and config._attn_implementation == "sdpa"
    if not usual or kinds != {"full_attention"}:
        return
    model.set_attn_implementation(NAME)
    if not _agrees(model):
        model.set_attn_implementation("sdpa")


def _agrees(model: PreTrainedModel) -> bool:
    """Two prompts, one with two traces, against the padded pass."""
    last = model.config.vocab_size - 1
    ids = torch.arange(1, 28, device=model.device).view(3, 9).clamp_(max=last)
    ids[1, :4] = ids[0, :4]
    attention = torch.ones_like(ids, dtype=torch.bool)
    attention[1, 7:], attention[2, 5:] = False, False
    completion = attention.clone()
    completion[:, :4] = False
    offsets = torch.zeros(3, 9, 2, dtype=torch.int32, device=ids.device)
    tokens = TokenBatch(ids, attention, completion, torch.zeros_like(completion), offsets)
    try:
        ours = packed_hidden_states(model.get_decoder(), tokens).float()
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    theirs = model.get_decoder()(
        input_ids=ids, attention_mask=attention.long(), position_ids=tokens.position_ids, use_cache=False
    ).last_hidden_state.float()
    difference = (ours - theirs)[attention].abs().max()
    tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
    return bool(difference <= tolerance * theirs[attention].abs().max())
