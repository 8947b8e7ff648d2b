"""Sampling completions from the policy."""

from rairl_lightning.models.decoding import DynamicInt8, InPlace, Packed
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.rollouts.hf import HFSampler
from rairl_lightning.rollouts.shared_prefix import SharedPrefixSampler

__all__ = ["DynamicInt8", "HFSampler", "InPlace", "Packed", "Sampler", "SharedPrefixSampler"]
