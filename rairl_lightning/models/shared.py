"""Players that train adapters over frozen backbones: one for both, or one each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from rairl_lightning.errors import ModelError
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.heads import HeadSpec, LinearHead
from rairl_lightning.models.kernels.lora import adapted
from rairl_lightning.models.loading import checkpoint_activations, fingerprint, load_backbone, load_tokenizer
from rairl_lightning.models.pair import ModelPair, PairSpec
from rairl_lightning.models.policy import Policy, Reference
from rairl_lightning.models.shapes import PairShape, PlayerShape, adapted_player, base_bytes
from rairl_lightning.models.specs import BackboneSpec, LoRASpec
from rairl_lightning.models.views import assert_shared, view


@dataclass(frozen=True)
class SharedBase(PairSpec):
    """One frozen base in memory; policy and discriminator are two adapters over views of it, the reference is bare.

    Attributes:
        backbone: may be quantised.
        policy_lora: the policy's adapter.
        discriminator_lora: the discriminator's adapter.
        head: of the discriminator.
        system_prompt: put before every question.
        activation_checkpointing: recompute activations in the backward pass.
    """

    backbone: BackboneSpec
    policy_lora: LoRASpec = field(default_factory=LoRASpec)
    discriminator_lora: LoRASpec = field(default_factory=LoRASpec)
    head: HeadSpec = field(default_factory=LinearHead)
    system_prompt: str | None = None
    activation_checkpointing: bool = False

    def build(self, device: torch.device | str = "cpu", *, with_discriminator: bool = True) -> ModelPair:
        """See :class:`PairSpec`."""
        base = load_backbone(self.backbone, device)
        critic = view(base) if with_discriminator else None
        pair = _assemble(self, base, critic, fingerprint(base), self.load_codec())
        pair.shares_base = True
        pair.check_sharing()
        return pair

    def shape(self, *, with_discriminator: bool = True) -> PairShape:
        """See :class:`PairSpec`."""
        critic = self.backbone if with_discriminator else None
        return _shape(self, self.backbone, critic, lambda policy, _: base_bytes(policy.backbone, "base"))

    def load_codec(self) -> TraceCodec:
        """See :class:`PairSpec`."""
        return TraceCodec(load_tokenizer(self.backbone), self.system_prompt, self.backbone.chat_template)


@dataclass(frozen=True)
class TwoBackbones(PairSpec):
    """A frozen base for each player, for instance a small policy judged by a larger discriminator.

    Both must read the same ids: a reward belongs to a token.

    Attributes:
        policy_backbone: may be quantised; the reference is a view of it.
        discriminator_backbone: may be quantised.
        policy_lora: the policy's adapter.
        discriminator_lora: the discriminator's adapter.
        head: of the discriminator.
        system_prompt: put before every question.
        activation_checkpointing: recompute activations in the backward pass.
    """

    policy_backbone: BackboneSpec
    discriminator_backbone: BackboneSpec
    policy_lora: LoRASpec = field(default_factory=LoRASpec)
    discriminator_lora: LoRASpec = field(default_factory=LoRASpec)
    head: HeadSpec = field(default_factory=LinearHead)
    system_prompt: str | None = None
    activation_checkpointing: bool = False

    def build(self, device: torch.device | str = "cpu", *, with_discriminator: bool = True) -> ModelPair:
        """See :class:`PairSpec`.

        Raises:
            ModelError: the backbones have different tokenizers or chat templates.
        """
        codec = self.load_codec()
        base = load_backbone(self.policy_backbone, device)
        critic = load_backbone(self.discriminator_backbone, device) if with_discriminator else None
        identity = "-".join(fingerprint(model) for model in (base, critic) if model is not None)
        return _assemble(self, base, critic, identity, codec)

    def shape(self, *, with_discriminator: bool = True) -> PairShape:
        """See :class:`PairSpec`."""

        def frozen(policy: PlayerShape, discriminator: PlayerShape | None) -> dict[str, int]:
            own = base_bytes(policy.backbone, "policy's base")
            if discriminator is None:
                return own
            kept = discriminator.reads_vocabulary
            return own | base_bytes(discriminator.backbone, "discriminator's base", with_output=kept)

        return _shape(self, self.policy_backbone, self.discriminator_backbone if with_discriminator else None, frozen)

    def load_codec(self) -> TraceCodec:
        """See :class:`PairSpec`; the discriminator's tokenizer is compared with it."""
        codec, other = (
            TraceCodec(load_tokenizer(backbone), self.system_prompt, backbone.chat_template)
            for backbone in (self.policy_backbone, self.discriminator_backbone)
        )
        if codec.fingerprint != other.fingerprint:
            raise ModelError(
                "The two backbones do not read the same tokens.",
                expected=f"the tokenizer and chat template of {self.policy_backbone.path}",
                got=f"those of {self.discriminator_backbone.path}",
                remedy="choose two sizes of one model family; if only the templates differ, set chat_template on both",
            )
        return codec


def _shape(
    spec: SharedBase | TwoBackbones,
    base: BackboneSpec,
    critic: BackboneSpec | None,
    frozen: Callable[[PlayerShape, PlayerShape | None], dict[str, int]],
) -> PairShape:
    policy = adapted_player(base, spec.policy_lora, _lora_config(spec.policy_lora, "CAUSAL_LM"))
    discriminator = None
    if critic is not None:
        config = _lora_config(spec.discriminator_lora, "FEATURE_EXTRACTION")
        discriminator = adapted_player(critic, spec.discriminator_lora, config, spec.head)
    parts = frozen(policy, discriminator)
    return PairShape(policy, discriminator, parts, policy.trained.bytes, spec.activation_checkpointing)


def _assemble(
    spec: SharedBase | TwoBackbones,
    base: PreTrainedModel,
    critic: PreTrainedModel | None,
    base_fingerprint: str,
    codec: TraceCodec,
) -> ModelPair:
    policy_config = _lora_config(spec.policy_lora, "CAUSAL_LM")
    reference = Reference(view(base), policy_config)
    if spec.activation_checkpointing:
        checkpoint_activations(*(model for model in (base, critic) if model is not None))
    discriminator = None if critic is None else _discriminator(spec, critic)
    policy = Policy(adapted(base, policy_config))
    pair = ModelPair(policy, discriminator, reference, codec, adapters_only=True, base_fingerprint=base_fingerprint)
    assert_shared(pair.policy, pair.reference)
    return pair


def _discriminator(spec: SharedBase | TwoBackbones, critic: PreTrainedModel) -> Discriminator:
    return Discriminator(
        adapted(critic.get_decoder(), _lora_config(spec.discriminator_lora, "FEATURE_EXTRACTION")),
        spec.head.build(critic.config.hidden_size).to(critic.device),
        critic.get_output_embeddings() if spec.head.needs_lm_head else None,
    )


def _lora_config(spec: LoRASpec, task: Literal["CAUSAL_LM", "FEATURE_EXTRACTION"]) -> LoraConfig:
    return LoraConfig(
        task_type=task,
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=spec.target_modules,
        bias="none",
    )
