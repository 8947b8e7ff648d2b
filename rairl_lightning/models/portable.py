"""Players as models of transformers' own classes, written for others and read back as others read them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from rairl_lightning.errors import ModelError
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.heads import HeadSpec
from rairl_lightning.models.loading import DTYPES, nf4
from rairl_lightning.models.policy import Policy
from rairl_lightning.models.specs import BackboneSpec
from rairl_lightning.types import TokenBatch

WRAPPED = "base_model.model."  # PEFT's name for the model it wraps


def check_linear(spec: HeadSpec) -> None:
    """Refuse, before anything is loaded, a head that no token classifier has.

    Raises:
        ModelError: it reads more than the last hidden state.
    """
    if spec.as_linear(spec.build(1)) is None:
        raise ModelError(
            f"{type(spec).__name__} is no token classifier: it reads more than the last hidden state, or is no "
            "linear function of it.",
            expected="LinearHead, or TwoHeads of two of them",
            got=spec,
            remedy="train with head: LinearHead; this reward is read with TrainedReward.load and `rairl score`",
        )


def linear_head(spec: HeadSpec, discriminator: Discriminator) -> nn.Linear:
    """The discriminator's head as the one layer that a token classifier has.

    Raises:
        ModelError: it reads more than the last hidden state.
    """
    check_linear(spec)
    linear = spec.as_linear(discriminator.head)
    assert linear is not None
    return linear


def save_policy(policy: Policy, base: BackboneSpec, folder: Path, *, merged: bool) -> None:
    """Write a causal language model, or its adapter.

    Args:
        policy: is changed by merging.
        base: that the adapter stands on.
        folder: exists.
        merged: add the adapter to the weights; a policy that trained all of them has none, and is written whole.
    """
    model = policy.model
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
    elif merged:
        model.merge_and_unload(safe_merge=True).save_pretrained(folder)
    else:
        model.peft_config["default"].base_model_name_or_path = base.found_at
        model.peft_config["default"].revision = base.revision
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # PEFT's own, which says nothing


def head_name(discriminator: Discriminator) -> str:
    """What transformers calls the head of a token classifier over this decoder.

    Raises:
        ModelError: it has no such class, or another kind of one.
    """
    return _empty_classifier(discriminator.decoder, ["one"])[1]


def save_classifier(
    discriminator: Discriminator, head: nn.Linear, labels: Sequence[str], base: BackboneSpec, folder: Path, merged: bool
) -> None:
    """Write a token classifier, or its adapter with its head.

    Args:
        discriminator: is changed by merging.
        head: from :func:`linear_head`.
        labels: name of each of its outputs.
        base: that the adapter stands on.
        folder: exists.
        merged: as in :func:`save_policy`.

    Raises:
        ModelError: transformers has no token classifier of this architecture, or another kind of one.
    """
    model = discriminator.model
    whole, name = _empty_classifier(discriminator.decoder, labels)
    if isinstance(model, PeftModel) and not merged:
        _save_adapter(model, head, base, folder, f"{whole.base_model_prefix}.", name)
        return
    setattr(whole, whole.base_model_prefix, model.merge_and_unload(safe_merge=True) if _adapted(model) else model)
    setattr(whole, name, head)
    whole.save_pretrained(folder)


def save_tokenizer(codec: TraceCodec, folder: Path) -> None:
    """Write the tokenizer with the chat template that was used; it is not changed."""
    tokenizer = copy.deepcopy(codec.tokenizer)
    tokenizer.chat_template = codec.chat_template
    tokenizer.save_pretrained(folder)


def load_policy(folder: Path, base: BackboneSpec | None, device: torch.device) -> Policy:
    """A written policy, by transformers and PEFT alone.

    Args:
        folder: from :func:`save_policy`.
        base: that the adapter stands on; None of a whole model.
        device: where to.
    """
    if base is None:
        return Policy(AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device).eval())
    return Policy(PeftModel.from_pretrained(_base(AutoModelForCausalLM, base, device), folder).eval())


def load_classifier(
    folder: Path, base: BackboneSpec | None, head: str, outputs: int, device: torch.device
) -> PreTrainedModel:
    """A written token classifier, by transformers and PEFT alone.

    Args:
        folder: from :func:`save_classifier`.
        base: that the adapter stands on; None of a whole model.
        head: its name, from :func:`head_name`.
        outputs: of the head.
        device: where to.
    """
    if base is None:
        return AutoModelForTokenClassification.from_pretrained(folder, dtype="auto").to(device).eval()
    model = _base(AutoModelForTokenClassification, base, device, [head], num_labels=outputs)
    return PeftModel.from_pretrained(model, folder).eval()


@torch.no_grad()
def classified(model: PreTrainedModel, tokens: TokenBatch) -> Tensor:
    """Logits of a token classifier as a discriminator gives them: ``[N, T]``, or ``[N, T, 2]`` of two heads."""
    logits = model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask.long(), position_ids=tokens.position_ids
    ).logits.float()
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def _as_in_training(base: BackboneSpec, device: torch.device, kept: list[str] | None) -> dict[str, Any]:
    """How ``from_pretrained`` gets a base model as it was in training."""
    arguments: dict[str, Any] = {"dtype": DTYPES[base.dtype]}
    if base.revision:
        arguments["revision"] = base.revision
    if base.quantisation:
        arguments |= {"quantization_config": nf4(DTYPES[base.dtype], device, kept), "device_map": {"": device}}
    return arguments


def _base(
    kind: Any, base: BackboneSpec, device: torch.device, kept: list[str] | None = None, **more: Any
) -> PreTrainedModel:
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # that the base has no head of ours is no news: PEFT brings it
    try:
        model = kind.from_pretrained(base.path, **_as_in_training(base, device, kept), **more)
    finally:
        logging.set_verbosity(before)
    return model if base.quantisation else model.to(device)


def _adapted(model: nn.Module) -> bool:
    return isinstance(model, PeftModel)


def _empty_classifier(decoder: PreTrainedModel, labels: Sequence[str]) -> tuple[PreTrainedModel, str]:
    """A token classifier of the decoder's architecture without memory, and the name of its head."""
    config: PreTrainedConfig = copy.deepcopy(decoder.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: place for place, label in enumerate(labels)}
    config.architectures = None
    try:
        with torch.device("meta"):
            model = AutoModelForTokenClassification.from_config(config)
    except ValueError as error:
        raise _unknown(decoder, str(error).partition("\n")[0]) from error
    heads = [name for name, part in model.named_children() if isinstance(part, nn.Linear)]
    if len(heads) != 1 or type(model.base_model) is not type(decoder):
        raise _unknown(decoder, f"{type(model).__name__} of {type(model.base_model).__name__} and heads {heads}")
    return model, heads[0]


def _unknown(decoder: PreTrainedModel, got: str) -> ModelError:
    return ModelError(
        f"transformers has no token classifier over a {type(decoder).__name__}.",
        expected="a class with this decoder and one linear layer, as for Llama and Qwen",
        got=got,
        remedy="read this reward with TrainedReward.load and `rairl score`, or train on another backbone",
    )


def _save_adapter(
    model: PeftModel, head: nn.Linear, base: BackboneSpec, folder: Path, prefix: str, head_name: str
) -> None:
    """The decoder's adapter as that of the whole classifier, whose head PEFT keeps beside it."""
    config: LoraConfig = copy.deepcopy(model.peft_config["default"])
    config.task_type, config.modules_to_save, config.inference_mode = "TOKEN_CLS", [head_name], True
    config.base_model_name_or_path, config.revision = base.found_at, base.revision
    config.save_pretrained(folder)
    adapter = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" in name}
    tensors = {
        WRAPPED + prefix + name.removeprefix(WRAPPED).replace(".default.", "."): tensor.detach().contiguous()
        for name, tensor in adapter.items()
    }
    tensors |= {f"{WRAPPED}{head_name}.{name}": tensor.detach() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
