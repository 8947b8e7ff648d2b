"""Sampling completions from the policy."""

from rairl_lightning.models.decoding import DynamicInt8, InPlace, Native, Packed
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.rollouts.continuous import ContinuousSampler
from rairl_lightning.rollouts.hf import HFSampler
from rairl_lightning.rollouts.shared_prefix import SharedPrefixSampler
from rairl_lightning.rollouts.static import StaticSampler
from rairl_lightning.rollouts.vllm import VLLMSampler

__all__ = [
    "ContinuousSampler",
    "DynamicInt8",
    "HFSampler",
    "InPlace",
    "Native",
    "Packed",
    "Sampler",
    "SharedPrefixSampler",
    "StaticSampler",
    "VLLMSampler",
]
