"""Three separate models that train all their weights: for tiny backbones."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from rairl_lightning.errors import ConfigError
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.heads import HeadSpec, LinearHead
from rairl_lightning.models.loading import checkpoint_activations, fingerprint, load_backbone, load_tokenizer
from rairl_lightning.models.pair import ModelPair, PairSpec
from rairl_lightning.models.policy import Policy, Reference
from rairl_lightning.models.shapes import PairShape, whole_player
from rairl_lightning.models.specs import BackboneSpec


@dataclass(frozen=True)
class FullFineTuning(PairSpec):
    """Policy, discriminator and reference each with full weights of their own, all starting from one backbone.

    Attributes:
        backbone: not quantised.
        head: of the discriminator.
        system_prompt: put before every question.
        activation_checkpointing: recompute activations in the backward pass.
    """

    backbone: BackboneSpec
    head: HeadSpec = field(default_factory=LinearHead)
    system_prompt: str | None = None
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.backbone.quantisation:
            raise ConfigError(
                "4-bit weights cannot be trained.",
                expected="backbone.quantisation: null",
                got=self.backbone.quantisation,
                remedy="use SharedBase or TwoBackbones, which train adapters",
            )

    def build(self, device: torch.device | str = "cpu", *, with_discriminator: bool = True) -> ModelPair:
        """See :class:`PairSpec`."""
        model = load_backbone(self.backbone, device)
        identity = fingerprint(model)
        reference, critic = copy.deepcopy(model), copy.deepcopy(model) if with_discriminator else None
        if self.activation_checkpointing:
            checkpoint_activations(*(one for one in (model, critic) if one is not None))
        return ModelPair(
            Policy(model),
            None if critic is None else self._discriminator(critic),
            Reference(reference),
            self.load_codec(),
            adapters_only=False,
            base_fingerprint=identity,
        )

    def shape(self, *, with_discriminator: bool = True) -> PairShape:
        """See :class:`PairSpec`."""
        policy = whole_player(self.backbone)
        discriminator = whole_player(self.backbone, self.head) if with_discriminator else None
        reference = {"reference": policy.trained.bytes}
        return PairShape(policy, discriminator, reference, 0, self.activation_checkpointing)

    def _discriminator(self, critic: PreTrainedModel) -> Discriminator:
        return Discriminator(
            critic.get_decoder(),
            self.head.build(critic.config.hidden_size).to(critic.device),
            critic.get_output_embeddings() if self.head.needs_lm_head else None,
        )

    def load_codec(self) -> TraceCodec:
        """See :class:`PairSpec`."""
        return TraceCodec(load_tokenizer(self.backbone), self.system_prompt, self.backbone.chat_template)
