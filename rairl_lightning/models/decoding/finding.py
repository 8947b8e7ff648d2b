"""Which models the lean pass decodes: of a known shape, and only where it computes what transformers does."""

from __future__ import annotations

import warnings
import weakref

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rairl_lightning.models.decoding.decoder import LeanDecoder, linears_of
from rairl_lightning.models.decoding.weights import HeldWeights, InPlace
from rairl_lightning.models.policy import Policy

SHAPES = ("llama", "mistral", "qwen2", "qwen3")
# Largest difference of logits between this pass and transformers', over the largest logit.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_checked: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()
_native_checked: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def lean_decoder(policy: Policy, weights: HeldWeights) -> LeanDecoder | None:
    """The policy's weights held for decoding; None for a sharded policy, or a model that computes something else.

    Once for each model its logits are compared with transformers'.

    Args:
        policy: in evaluation mode.
        weights: how to hold them.
    """
    model = policy.causal_lm
    if policy.sharded or not _known(model):  # a shard's hooks are on modules, which the lean pass does not all call
        return None
    if model not in _checked:
        _checked[model] = _agrees(model)
        if not _checked[model]:
            warnings.warn(
                f"{type(model).__name__} looks like a Llama and computes something else; transformers decodes it.",
                stacklevel=2,
            )
    if not _checked[model]:
        return None
    decoder = LeanDecoder(model, weights)
    if decoder.native is not None and model not in _native_checked:
        _native_checked[model] = _steps_agree(decoder)
        if not _native_checked[model]:
            warnings.warn("Compiled code computes something else than the model; it is not used.", stacklevel=2)
    while decoder.native is not None and not _native_checked[model]:
        decoder = LeanDecoder(model, decoder.weights.instead)
    return decoder


def _known(model: PreTrainedModel) -> bool:
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = config.model_type == "mistral" and getattr(config, "sliding_window", None) is not None
    usual = getattr(config, "hidden_act", None) == "silu" and kinds == {"full_attention"} and not windowed
    return config.model_type in SHAPES and usual and all(linears_of(block) for block in model.get_decoder().layers)


def _agrees(model: PreTrainedModel) -> bool:
    lean, ids = LeanDecoder(model, InPlace()), _two_rows(model)
    theirs = model(input_ids=ids, use_cache=False).logits.float()
    return _close(lean.logits(lean.read(ids).flatten(0, 1)).view_as(theirs), theirs, model)


def _steps_agree(decoder: LeanDecoder) -> bool:
    """Whether compiled code reads the last token of two rows as the decoder itself does."""
    ids = _two_rows(decoder.model)
    keys_values: list[tuple[Tensor, Tensor]] = []
    hidden = decoder.read(ids, lambda _, keys, values: keys_values.append((keys, values)))
    before = [(keys[:, :, :-1], values[:, :, :-1]) for keys, values in keys_values]
    lengths = torch.full((len(ids),), ids.shape[1] - 1)
    found = decoder.past(before, lengths, torch.arange(len(ids))).read(ids[:, -1], lengths)
    return _close(found, decoder.logits(hidden[:, -1]), decoder.model)


def _two_rows(model: PreTrainedModel) -> Tensor:
    """Two rows of up to 7 tokens."""
    ids = torch.arange(1, min(8, model.config.vocab_size), device=model.device)
    return torch.stack([ids, ids.flip(0)])


def _close(ours: Tensor, theirs: Tensor, model: PreTrainedModel) -> bool:
    tolerance = TOLERANCES.get(model.dtype, 0.0)
    if torch.is_autocast_enabled(model.device.type):
        tolerance = max(tolerance, TOLERANCES[torch.bfloat16])
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())
