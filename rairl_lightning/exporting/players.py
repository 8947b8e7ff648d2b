"""From what was trained to what is written: load, write, read back as others do, compare."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rairl_lightning.components.reader import RewardReader
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.artefact import Artefact
from rairl_lightning.exporting import said
from rairl_lightning.exporting.gap import Gap
from rairl_lightning.exporting.snippet import HERE, policy_snippet, reward_snippet, standalone_steps
from rairl_lightning.exporting.texts import compared_texts, run_of
from rairl_lightning.models import HeadSpec, portable
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.models.specs import BackboneSpec
from rairl_lightning.types import TokenBatch

MICROBATCH = 2048  # tokens at once while two models are compared


@dataclass(frozen=True)
class Exported:
    """What a card says of weights that lie in a folder.

    Attributes:
        what: ``policy`` or ``reward``.
        base: the model that training started from.
        adapter: whether it is needed to use what was written.
        labels: of the reward's outputs; empty for a policy.
        reader: of the reward; None for a policy.
        gap: between what was trained and what was written.
        snippet: how it is used.
        system_prompt: put before every question.
        codec: hash of tokenizer and chat template.
        eos_id: the token that ends a turn.
    """

    what: str
    base: BackboneSpec
    adapter: bool
    labels: tuple[str, ...]
    reader: RewardReader | None
    gap: Gap
    snippet: str
    system_prompt: str | None
    codec: str
    eos_id: int


@dataclass(frozen=True)
class _Before:
    """Of the trained model: the texts, and the numbers to compare."""

    tokens: TokenBatch
    places: Tensor
    numbers: Tensor


def export_policy(
    artefact: Artefact, folder: Path, device: torch.device, *, merged: bool, name: str = HERE
) -> Exported:
    """Write a policy and its tokenizer, read it back, and compare log-probabilities.

    Args:
        artefact: of the run.
        folder: exists, and is empty.
        device: where the models are loaded, one at a time.
        merged: add the adapter to the weights of the base in full precision.
        name: of the export, in its usage.

    Raises:
        ConfigError: an adapter cannot stand on this base.
    """
    base = _bases(artefact)[0]
    pair = artefact.build(device, policy_alone=True).eval()
    adapter = not merged and _adapter(pair, base, name)
    tokens = compared_texts(run_of(artefact.path), pair.codec, _context(pair.policy.causal_lm)).to(device)
    before = _Before(tokens, tokens.completion_mask, pair.policy.score(tokens, MICROBATCH).logprobs)
    if artefact.unquantised() is not artefact and not adapter:
        del pair
        _free()
        pair = artefact.unquantised().build(device, policy_alone=True).eval()
    codec = pair.codec
    portable.save_policy(pair.policy, base, folder, merged=not adapter)
    portable.save_tokenizer(codec, folder)
    del pair
    _free()
    again = portable.load_policy(folder, base if adapter else None, device)
    gap = _gap("log-probabilities (nats)", before, again.score(tokens, MICROBATCH).logprobs)
    snippet = policy_snippet(codec, base if adapter else None, name)
    return Exported(
        "policy", base, adapter, (), None, gap, snippet, codec.system_prompt, codec.fingerprint, codec.eos_id
    )


def export_reward(
    artefact: Artefact, folder: Path, device: torch.device, *, merged: bool, name: str = HERE
) -> Exported:
    """Write a discriminator as a token classifier with its tokenizer, read it back, and compare what it pays.

    Arguments as :func:`export_policy`.

    Raises:
        ConfigError: an adapter cannot stand on this base, or a part of the reader is not said in plain torch.
        ModelError: the head is not linear, or transformers has no token classifier of this architecture.
    """
    base, reader = _bases(artefact)[-1], artefact.reward_reader
    labels = said.labels(reader.critic)
    portable.check_linear(_head_of(artefact))
    pair = artefact.build(device).eval()
    adapter = not merged and _adapter(pair, base, name)
    codec = pair.codec
    called = portable.head_name(pair.discriminator)
    snippet = reward_snippet(reader, codec, base if adapter else None, (called, len(labels)), name)
    tokens = compared_texts(run_of(artefact.path), codec, pair.discriminator.context).to(device)
    pay_NT = reader.pay(pair.discriminator.score(tokens, MICROBATCH), tokens)
    before = _Before(tokens, reader.granularity(tokens), pay_NT)
    if artefact.unquantised() is not artefact and not adapter:
        del pair
        _free()
        pair = artefact.unquantised().build(device).eval()
    head = portable.linear_head(_head_of(artefact), pair.discriminator)
    portable.save_classifier(pair.discriminator, head, labels, base, folder, not adapter)
    portable.save_tokenizer(codec, folder)
    if f"from {said.STEPS} import" in snippet:
        (folder / f"{said.STEPS}.py").write_text(standalone_steps(), encoding="utf-8")
    del pair, head
    _free()
    again = portable.load_classifier(folder, base if adapter else None, called, len(labels), device)
    rows = [portable.classified(again, tokens.select([row])) for row in range(len(tokens))]
    gap = _gap("what is paid (logits)", before, _padded(reader, rows, tokens))
    return Exported(
        "reward", base, adapter, labels, reader, gap, snippet, codec.system_prompt, codec.fingerprint, codec.eos_id
    )


def _bases(artefact: Artefact) -> list[BackboneSpec]:
    """One for both players, or the policy's and then the discriminator's."""
    if found := [base for _, base in artefact.backbones()]:
        return found
    raise ConfigError(
        "This pair does not say which base model it stands on.",
        expected="a field of type BackboneSpec",
        got=type(artefact.spec).__name__,
    )


def _head_of(artefact: Artefact) -> HeadSpec:
    head = getattr(artefact.spec, "head", None)
    if not isinstance(head, HeadSpec):
        raise ConfigError(
            "This pair does not say which head its discriminator has.",
            expected="a field head: a HeadSpec",
            got=type(artefact.spec).__name__,
        )
    return head


def _padded(reader: RewardReader, rows: list[Tensor], tokens: TokenBatch) -> Tensor:
    """What each trace is paid, read alone, in the columns of the batch, which is padded on the right."""
    pay_NT = torch.zeros(tokens.input_ids.shape, device=tokens.device)
    for row, outputs in enumerate(rows):
        pay_NT[row, : outputs.shape[1]] = reader.pay(outputs, tokens.select([row]))[0]
    return pay_NT


def _gap(what: str, before: _Before, after_NT: Tensor) -> Gap:
    return Gap.between(what, before.numbers[before.places], after_NT[before.places], len(before.tokens))


def _adapter(pair: ModelPair, base: BackboneSpec, name: str) -> bool:
    """Whether there is an adapter to write, and not a whole model."""
    if not pair.adapters_only:
        return False
    if base.gguf_file:
        raise ConfigError(
            "An adapter over a GGUF file cannot be loaded by others.",
            expected="a base of safetensors",
            got=base.gguf_file,
            remedy="add --merged",
        )
    if base.is_local and name != HERE:
        raise ConfigError(
            "This adapter stands on a folder of this machine, which others do not have.",
            expected="a base model on the hub",
            got=base.public_name,
            remedy="add --merged, or name the same model on the hub: --backbone OWNER/NAME",
        )
    return True


def _context(model: torch.nn.Module) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _free() -> None:
    """Give memory back before the next model is loaded."""
    gc.collect()
    torch.cuda.empty_cache()
