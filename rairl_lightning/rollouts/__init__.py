"""Sampling completions from the policy."""

from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.rollouts.hf import HFSampler

__all__ = ["HFSampler", "Sampler"]
