"""What ``cpp/vocabulary.cpp`` offers: log-probabilities under a head over a vocabulary that is read in blocks."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from rairl_lightning.native.compiling import Signatures, bound, library

BLOCK = 1024
"""Of the vocabulary: the logits of 512 rows stay in a cache."""


class Folded(ctypes.Structure):
    """See the source."""

    _fields_ = (*((name, c_void_p) for name in ("most", "total", "dot", "chosen", "targets")), ("rows", c_int64))


SIGNATURES: Signatures = {"fold": (None, [POINTER(Folded), c_void_p, c_int64, c_int64, c_float, c_void_p, c_int])}


def available() -> bool:
    """Whether there is a library."""
    return library("vocabulary") is not None


@functools.cache
def _library() -> Any:
    return bound("vocabulary", SIGNATURES)


def head_statistics(
    states_MH: Tensor,
    targets_M: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    temperature: float,
    *,
    direction: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``log π(x)``, the entropy of ``π = softmax((h Wᵀ + b) / τ)``, and ``∂ log π(x) / ∂h`` if asked; no gradient.

    Every block of logits is used up before the next is made: what was found so far is multiplied by ``e^(m - m')``
    when the largest logit m grows to m'.

    Args:
        states_MH: ``[M, H]`` float32 on a CPU.
        targets_M: ``[M]`` int64.
        weight_VH: ``[V, H]`` float32.
        bias_V: ``[V]``, or None.
        temperature: τ > 0.
        direction: whether the gradient is wanted.

    Returns:
        ``[M]``, ``[M]`` and ``[M, H]``.
    """
    rows, targets_M = len(states_MH), targets_M.to(torch.int64).contiguous()
    if rows and not (targets_M.min() >= 0 and targets_M.max() < len(weight_VH)):
        ends = f"{int(targets_M.min())} to {int(targets_M.max())}"
        raise IndexError(f"Targets must be tokens of the vocabulary of {len(weight_VH)}; got {ends}.")
    most, others, dot, chosen, factors = states_MH.new_zeros(5, rows).unbind()
    most.fill_(torch.finfo(torch.float32).min)
    known = Folded(*(one.data_ptr() for one in (most, others, dot, chosen, targets_M)), rows)
    pulled_MH = torch.zeros_like(states_MH, memory_format=torch.contiguous_format) if direction else None
    for first in range(0, len(weight_VH), BLOCK):
        part_BH = weight_VH[first : first + BLOCK]
        logits_MB = linear(states_MH, part_BH, None if bias_V is None else bias_V[first : first + BLOCK]).contiguous()
        sizes = logits_MB.shape[1], first, 1 / temperature
        _library().rairl_fold(known, logits_MB.data_ptr(), *sizes, factors.data_ptr(), torch.get_num_threads())
        if pulled_MH is not None:
            pulled_MH.mul_(factors[:, None]).addmm_(logits_MB, part_BH)
    above = chosen - most
    own = above.exp()
    total = own + others
    logprobs = torch.where(own > others, -torch.log1p(others / own), above - total.log())
    entropy = total.log() - (dot + torch.where(own > 0, own * above, 0.0)) / total
    if pulled_MH is not None:
        # 1 - π(x) at the token itself: of two rows of weights that nearly cancel something is left.
        own_MH = weight_VH[targets_M] * (others / total)[:, None]
        pulled_MH = own_MH.sub_(pulled_MH.div_(total[:, None])).div_(temperature)
    return logprobs, entropy, pulled_MH
