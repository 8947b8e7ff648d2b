"""Parts of a training step, what the algorithms share with Lightning, and the baselines beside R-AIRL."""

from rairl_lightning.algorithms.grpo import GRPO
from rairl_lightning.algorithms.sft import SFT

__all__ = ["GRPO", "SFT"]
