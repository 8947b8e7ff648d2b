"""Trained models for others: ordinary transformers folders, with what it takes to read them written beside."""

from rairl_lightning.exporting.folder import Target
from rairl_lightning.exporting.gap import Gap
from rairl_lightning.exporting.hub import check_repository, push
from rairl_lightning.exporting.players import Exported, export_policy, export_reward

__all__ = ["Exported", "Gap", "Target", "check_repository", "export_policy", "export_reward", "push"]
