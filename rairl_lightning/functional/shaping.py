"""The two-head AIRL critic: a reward for each segment, and a potential that shapes it (arXiv 1710.11248)."""

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.segments import previous_point


def segment_shaping(potentials: Tensor, grid: Tensor, completion_mask: Tensor, gamma: float = 1.0) -> Tensor:
    """What a potential adds to the reward of each segment.

    ``γ h(s_{k+1}) - h(s_k)`` with ``h(s_K) = 0`` (Fu et al. 2018, §6; Ng et al. 1999).
    State ``s_k`` is the prefix that ends with segment k - 1, ``s_0`` the prompt alone. A terminal state that had
    a potential would pay for where a trace ends; without one, ``Σ_k γ^k shaping_k = -h(s_0)`` whatever the
    completion.

    Args:
        potentials: ``[N, T]`` h, where column t has read ``x_≤t``; read on the grid and at the prompt's last token.
        grid: ``[N, T]`` bool.
        completion_mask: ``[N, T]`` bool.
        gamma: γ in [0, 1], a segment.

    Returns:
        ``[N, T]`` on the grid, 0 off it.

    Raises:
        ConfigError: γ is out of range.
        DataError: the shapes differ, or a completion starts in column 0, where no prompt was read.

    >>> mask = torch.tensor([[False, True, True, True]])
    >>> grid = torch.tensor([[False, False, True, True]])
    >>> segment_shaping(torch.tensor([[1.0, 9.0, 4.0, 9.0]]), grid, mask, gamma=0.5)
    tensor([[ 0.,  0.,  1., -4.]])
    """
    check_number("gamma", gamma, at_least=0, at_most=1)
    check_same_shape(potentials=potentials, grid=grid, completion_mask=completion_mask)
    points = grid & completion_mask
    previous = previous_point(points | _prompt_end(completion_mask))
    before = potentials.gather(1, previous.clamp(min=0))
    terminal = points & (points.long().flip(1).cumsum(dim=1).flip(1) == 1)
    shaping = gamma * potentials.masked_fill(terminal, 0.0) - before
    return torch.where(points, shaping, torch.zeros_like(shaping))


def _prompt_end(completion_mask: Tensor) -> Tensor:
    """Mark the column before each first completion token."""
    first = completion_mask & (completion_mask.long().cumsum(dim=1) == 1)
    if bool(first[:, :1].any()):
        raise DataError(
            "A completion starts in column 0, so its first state has no potential.",
            expected="at least one prompt token before it",
            got=f"{int(first[:, 0].sum())} such rows",
            remedy="give every prompt at least one token (a template or a bos token does)",
        )
    return torch.cat([first[:, 1:], torch.zeros_like(first[:, :1])], dim=1)
