"""Choosing one of N traces: by the learned reward, and by everything it has to be compared with."""

from rairl_lightning.evaluation.reranking.rules import Groups, chosen_right, rerank, reward_auroc

__all__ = ["Groups", "chosen_right", "rerank", "reward_auroc"]
