"""What is logged about every round, as plain numbers."""

from __future__ import annotations

from torch import Tensor

from rairl_lightning.components.labelling import AnswerAgreement
from rairl_lightning.functional.advantages import split_groups, trajectory_mean
from rairl_lightning.text.answers import answers_agree, extract_answer
from rairl_lightning.text.chat import parse_completion
from rairl_lightning.types import Rollouts, TrainBatch


def agreement(batch: TrainBatch, rollouts: Rollouts) -> Tensor:
    """Whether each rollout's answer agrees with the demonstration's, ``[N]`` bool."""
    answers = [extract_answer(text) for text in rollouts.texts]
    return AnswerAgreement()(answers, batch.answers(rollouts.group_size), answers_agree)


def rollout_statistics(rollouts: Rollouts, agrees_N: Tensor) -> dict[str, float]:
    """How the sampled traces look.

    Args:
        rollouts: N traces.
        agrees_N: ``[N]`` bool, whether the answer agrees with the demonstration's.

    Returns:
        Mean length in tokens and the shares of finished, well-formed, answering, distinct and agreeing traces.
    """
    texts, size = rollouts.texts, rollouts.group_size
    groups = [texts[start : start + size] for start in range(0, len(texts), size)]
    return {
        "rollouts/length": float(rollouts.tokens.completion_lengths_N.float().mean()),
        "rollouts/finished_rate": float(rollouts.finished.float().mean()),
        "rollouts/format_rate": sum(parse_completion(text).well_formed for text in texts) / len(texts),
        "rollouts/answer_rate": sum(extract_answer(text) is not None for text in texts) / len(texts),
        "rollouts/distinct_rate": sum(len(set(group)) for group in groups) / len(texts),
        "rollouts/agreement": float(agrees_N.float().mean()),
    }


def reward_statistics(rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> dict[str, float]:
    """Mean reward, its spread inside the groups, and the share of groups that teach nothing.

    Args:
        rewards_NT: ``[N, T]`` back-filled rewards.
        completion_mask_NT: ``[N, T]`` bool.
        group_size: G.
    """
    groups_BG = split_groups(trajectory_mean(rewards_NT, completion_mask_NT), group_size)
    deviation_B = groups_BG.std(dim=1, unbiased=False)
    return {
        "reward/mean": float(groups_BG.mean()),
        "reward/group_std": float(deviation_B.mean()),
        "reward/zero_std_groups": float((deviation_B < 1e-6).float().mean()),
    }
