"""Expert demonstrations, one file a data set."""

from rairl_lightning.data.demonstrations.arithmetic import Arithmetic
from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, held_out
from rairl_lightning.data.demonstrations.gsm8k import GSM8K
from rairl_lightning.data.demonstrations.jsonl import JsonLines

__all__ = ["GSM8K", "Arithmetic", "DemonstrationSource", "JsonLines", "Splits", "held_out"]
