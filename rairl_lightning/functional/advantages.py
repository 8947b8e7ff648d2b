"""From token rewards to advantages."""

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.functional.masking import masked_mean


def trajectory_mean(rewards_NT: Tensor, completion_mask_NT: Tensor) -> Tensor:
    """Reward of a trace: the mean over its completion tokens of the back-filled reward.

    ``R_n = (1 / L_n) Σ_t r̂_nt``. A mean, not a sum, so that length alone earns nothing.

    Args:
        rewards_NT: ``[N, T]`` back-filled rewards.
        completion_mask_NT: ``[N, T]`` bool.

    Returns:
        ``[N]``; 0 for an empty completion.

    Raises:
        DataError: the shapes differ.
    """
    return masked_mean(rewards_NT, completion_mask_NT, dim=1)


def split_groups(values_N: Tensor, group_size: int) -> Tensor:
    """View the rows as groups.

    Args:
        values_N: ``[N]``, the rows of a group adjacent.
        group_size: G >= 1.

    Returns:
        ``[B, G]``.

    Raises:
        ConfigError: G is below 1.
        DataError: N is not a multiple of G.
    """
    check_number("group_size", group_size, at_least=1)
    if len(values_N) % group_size:
        raise DataError(
            "A group was split.", expected=f"a multiple of group_size = {group_size} rows", got=f"{len(values_N)} rows"
        )
    return values_N.reshape(-1, group_size)


def group_normalised(trajectory_rewards_N: Tensor, group_size: int, eps: float = 1e-4) -> Tensor:
    """Standing of each trace within its group.

    ``A_n = (R_n - mean_G R) / (std_G R + eps)`` with the population deviation (GRPO, arXiv 2402.03300).

    Args:
        trajectory_rewards_N: ``[N]``, the rows of a group adjacent.
        group_size: G >= 1; a group of one has no one to compare with and gets 0.
        eps: >= 0, in units of reward; damps groups that hardly differ.

    Returns:
        ``[N]``; exactly 0 in a group whose rewards are all equal.

    Raises:
        ConfigError: G or eps is out of range.
        DataError: N is not a multiple of G.

    >>> group_normalised(torch.tensor([1.0, 3.0, 7.0, 7.0]), group_size=2, eps=0.0)
    tensor([-1.,  1.,  0.,  0.])
    """
    check_number("eps", eps, at_least=0)
    rewards_BG = split_groups(trajectory_rewards_N, group_size)
    centred = rewards_BG - rewards_BG.mean(dim=1, keepdim=True)
    std = rewards_BG.std(dim=1, unbiased=False, keepdim=True)
    # The mean of equal numbers may be off by a rounding error, which a small eps would blow up.
    flat = (rewards_BG == rewards_BG[:, :1]).all(dim=1, keepdim=True)
    return torch.where(flat, torch.zeros_like(centred), centred / (std + eps)).reshape(-1)


def group_normalised_advantages(
    rewards_NT: Tensor, completion_mask_NT: Tensor, group_size: int, eps: float = 1e-4
) -> Tensor:
    """:func:`group_normalised` :func:`trajectory_mean`, given to every completion token; 0 outside.

    Args:
        rewards_NT: ``[N, T]`` back-filled rewards.
        completion_mask_NT: ``[N, T]`` bool.
        group_size: G >= 1.
        eps: >= 0.

    Returns:
        ``[N, T]``.

    Raises:
        ConfigError: G or eps is out of range.
        DataError: the shapes differ, or N is not a multiple of G.
    """
    advantages_N = group_normalised(trajectory_mean(rewards_NT, completion_mask_NT), group_size, eps)
    return advantages_N.unsqueeze(1) * completion_mask_NT
