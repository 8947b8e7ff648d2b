"""What a configuration would take, in memory and in time, before anything of it is loaded."""

from rairl_lightning.planning.advice import Saving, savings
from rairl_lightning.planning.devices import DEVICES, Device, chosen_device
from rairl_lightning.planning.memory import MemoryPlan, memory_plan
from rairl_lightning.planning.optimisers import OptimiserState
from rairl_lightning.planning.setup import Setup, setup_of
from rairl_lightning.planning.time import TimePlan, time_plan

__all__ = [
    "DEVICES",
    "Device",
    "MemoryPlan",
    "OptimiserState",
    "Saving",
    "Setup",
    "TimePlan",
    "chosen_device",
    "memory_plan",
    "savings",
    "setup_of",
    "time_plan",
]
