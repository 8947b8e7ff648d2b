"""One number for each given step of a solution, from values of its tokens; low is bad."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_same_shape


def step_last(values: Tensor, spans: Tensor) -> Tensor:
    """The value at the last token of each step.

    Args:
        values: ``[N, T]``; what lies in no step is never read.
        spans: ``[N, K, 2]`` int64, first and last column of each step; -1 where there is no step.

    Returns:
        ``[N, K]``; 0 where there is no step.

    Raises:
        DataError: the numbers of rows differ.

    >>> step_last(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), torch.tensor([[[1, 2], [3, 3]]]))
    tensor([[2., 3.]])
    """
    check_same_shape(values=values[:, 0], spans=spans[:, 0, 0])
    return values.gather(1, spans[..., 1].clamp(min=0)).masked_fill(spans[..., 1] < 0, 0.0)


def step_mean(values: Tensor, spans: Tensor) -> Tensor:
    """Mean over the tokens of each step. As :func:`step_last`.

    >>> step_mean(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), torch.tensor([[[1, 2], [3, 3]]]))
    tensor([[1.5000, 3.0000]])
    """
    kept, lengths = _of_steps(values, spans, 0.0)
    return kept.sum(dim=2) / lengths.clamp(min=1)


def step_minimum(values: Tensor, spans: Tensor) -> Tensor:
    """The lowest value of the tokens of each step. As :func:`step_last`.

    >>> step_minimum(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[[1, 2], [3, 3]]]))
    tensor([[1., 3.]])
    """
    kept, lengths = _of_steps(values, spans, torch.inf)
    return kept.amin(dim=2).masked_fill(lengths == 0, 0.0)


def step_change(scores: Tensor, baseline: float = 0.0) -> Tensor:
    """How far each step's score rose over that of the step before: ``s_k - s_{k-1}``, ``s_{-1} = baseline``.

    Args:
        scores: ``[N, K]``.
        baseline: before the first step; 0 is what a balanced discriminator says before it has read anything, and
            certainty for a log-probability.

    Returns:
        ``[N, K]``.

    >>> step_change(torch.tensor([[1.0, -2.0]]))
    tensor([[ 1., -3.]])
    """
    return scores - torch.cat([torch.full_like(scores[:, :1], baseline), scores[:, :-1]], dim=1)


def _of_steps(values: Tensor, spans: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """``[N, K, T]`` values of each step's tokens, ``fill`` elsewhere, and ``[N, K]`` lengths."""
    check_same_shape(values=values[:, 0], spans=spans[:, 0, 0])
    columns = torch.arange(values.shape[1], device=values.device)
    inside = (columns >= spans[..., :1]) & (columns <= spans[..., 1:]) & (spans[..., 1:] >= 0)
    return torch.where(inside, values.unsqueeze(1), fill), inside.sum(dim=2)
