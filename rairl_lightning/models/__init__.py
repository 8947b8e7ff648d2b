"""The models: loading, two players over one base, heads, and the codec. The only place that knows transformers."""

from rairl_lightning.models.codec import TraceCodec, check_tokenizer
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.models.full import FullFineTuning
from rairl_lightning.models.heads import ExpectationHead, HeadInputs, HeadSpec, LinearHead, TwoHeads
from rairl_lightning.models.pair import ModelPair, PairSpec
from rairl_lightning.models.policy import Policy, Reference
from rairl_lightning.models.shapes import BackboneShape, PairShape, PlayerShape
from rairl_lightning.models.shared import SharedBase, TwoBackbones
from rairl_lightning.models.specs import BackboneSpec, LoRASpec

__all__ = [
    "BackboneShape",
    "BackboneSpec",
    "Discriminator",
    "ExpectationHead",
    "FullFineTuning",
    "HeadInputs",
    "HeadSpec",
    "LinearHead",
    "LoRASpec",
    "ModelPair",
    "PairShape",
    "PairSpec",
    "PlayerShape",
    "Policy",
    "Reference",
    "SharedBase",
    "TraceCodec",
    "TwoBackbones",
    "TwoHeads",
    "check_tokenizer",
]
