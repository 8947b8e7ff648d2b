"""Rewards to come, and the baselines and scales of advantages that differ from token to token."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.advantages import split_groups, trajectory_mean
from rairl_lightning.functional.masking import masked_mean


def discounted_to_go(rewards_NT: Tensor, completion_mask_NT: Tensor, discount: float) -> Tensor:
    """Discounted sum of a token's reward and those after it.

    ``G_t = r_t + γ G_{t+1}``, ``G = 0`` past the end: one backward recursion, finite at any length. (Dividing a
    cumulative sum by ``γ^t`` instead overflows float32 at T = 833 for γ = 0.9.)

    Args:
        rewards_NT: ``[N, T]``; what lies outside the completion is never read.
        completion_mask_NT: ``[N, T]`` bool.
        discount: γ in [0, 1], a token.

    Returns:
        ``[N, T]``, 0 outside the completion.

    Raises:
        ConfigError: γ is out of range.
        DataError: the shapes differ.

    >>> ones = torch.ones(1, 3)
    >>> discounted_to_go(ones, ones.bool(), discount=0.5)
    tensor([[1.7500, 1.5000, 1.0000]])
    """
    check_number("discount", discount, at_least=0, at_most=1)
    check_same_shape(rewards=rewards_NT, completion_mask=completion_mask_NT)
    rewards_NT = torch.where(completion_mask_NT, rewards_NT, torch.zeros_like(rewards_NT))
    to_go_TN = torch.empty_like(rewards_NT.T)
    to_come_N = rewards_NT.new_zeros(len(rewards_NT))
    for t in range(rewards_NT.shape[1] - 1, -1, -1):
        to_come_N = rewards_NT[:, t] + discount * to_come_N
        to_go_TN[t] = to_come_N
    return to_go_TN.T.masked_fill(~completion_mask_NT, 0.0).contiguous()


def group_centred(values_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
    """Subtract the group's mean, in which every trace counts alike whatever its length.

    ``v_nt - (1/G) Σ_{m in n's group} (1/L_m) Σ_s v_ms``; with one value a trace, Dr. GRPO's advantage
    (arXiv 2503.20783).

    Args:
        values_NT: ``[N, T]``.
        completion_mask_NT: ``[N, T]`` bool.
        group_size: G >= 1.

    Returns:
        ``[N, T]``, 0 outside the completion; exactly 0 in a group whose values are all equal.

    Raises:
        ConfigError: G is below 1.
        DataError: the shapes differ, or N is not a multiple of G.
    """
    means_BG = split_groups(trajectory_mean(values_NT, completion_mask_NT), group_size)
    centre_N = means_BG.mean(dim=1, keepdim=True).expand_as(means_BG).reshape(-1, 1)
    centred_NT = (values_NT - centre_N).masked_fill(~completion_mask_NT, 0.0)
    # The mean of equal numbers may be off by a rounding error, which a small eps would blow up.
    largest = torch.where(completion_mask_NT, values_NT, -torch.inf).amax(dim=1).view_as(means_BG).amax(dim=1)
    smallest = torch.where(completion_mask_NT, values_NT, torch.inf).amin(dim=1).view_as(means_BG).amin(dim=1)
    flat_N = (largest <= smallest).repeat_interleave(group_size)
    return centred_NT.masked_fill(flat_N.unsqueeze(1), 0.0)


def leave_one_out(trajectory_rewards_N: Tensor, group_size: int) -> Tensor:
    """Each trace against the mean of the *others* of its group (RLOO, arXiv 2402.14740).

    ``A_n = R_n - (1/(G-1)) Σ_{m ≠ n} R_m``, which is ``G/(G-1)`` times the distance to the group's mean.

    Args:
        trajectory_rewards_N: ``[N]``, the rows of a group adjacent.
        group_size: G >= 1; a group of one has no one to compare with and gets 0.

    Returns:
        ``[N]``.

    Raises:
        ConfigError: G is below 1.
        DataError: N is not a multiple of G.

    >>> leave_one_out(torch.tensor([1.0, 2.0, 6.0]), group_size=3)
    tensor([-3.0000, -1.5000,  4.5000])
    """
    rewards_BG = split_groups(trajectory_rewards_N, group_size)
    if group_size == 1:
        return torch.zeros_like(trajectory_rewards_N)
    others_BG = (rewards_BG.sum(dim=1, keepdim=True) - rewards_BG) / (group_size - 1)
    flat = (rewards_BG == rewards_BG[:, :1]).all(dim=1, keepdim=True)
    return (rewards_BG - others_BG).masked_fill(flat, 0.0).reshape(-1)


def group_spread(values_NT: Tensor, completion_mask_NT: Tensor, group_size: int) -> Tensor:
    """Population deviation within each group, in which every trace counts alike whatever its length.

    ``√( mean_G mean_t (v - v̄)² )`` with ``v̄ = mean_G mean_t v``. With one value a trace it is GRPO's ``std_G``.

    Args:
        values_NT: ``[N, T]``.
        completion_mask_NT: ``[N, T]`` bool.
        group_size: G >= 1; N makes it the deviation of the whole batch.

    Returns:
        ``[N]``, the same number in all rows of a group.

    Raises:
        ConfigError: G is below 1.
        DataError: the shapes differ, or N is not a multiple of G.
    """
    means_BG = split_groups(masked_mean(values_NT, completion_mask_NT, dim=1), group_size)
    centre_N = means_BG.mean(dim=1, keepdim=True).expand_as(means_BG).reshape(-1, 1)
    squares_N = masked_mean((values_NT - centre_N).square(), completion_mask_NT, dim=1)
    spread_B = split_groups(squares_N, group_size).mean(dim=1).sqrt()
    return spread_B.repeat_interleave(group_size)
