"""Log-probabilities of the completion, without ever holding the logits of the whole batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rairl_lightning.errors import DataError
from rairl_lightning.functional._checks import check_number, check_same_shape
from rairl_lightning.functional.frozen_head import FrozenHead, entropies, folds, is_frozen_linear

CHUNK, CHUNK_ON_CPU, CHUNK_FOLDED = 1024, 128, 512
"""Rows of logits alive at once; few on a CPU, where memory that was just used is the fastest; more where they are made
in blocks."""


class TokenStatistics(NamedTuple):
    """What a language model thought of each completion token; 0 elsewhere.

    Attributes:
        logprobs: ``[N, T]`` ``log π(x_t | x_<t)``, at least float32, with gradient.
        entropy: ``[N, T]`` entropy in nats of the distribution ``x_t`` was drawn from; a statistic, detached.
    """

    logprobs: Tensor
    entropy: Tensor


def gathered_logprobs(
    hidden_NTH: Tensor,
    input_ids_NT: Tensor,
    completion_mask_NT: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> TokenStatistics:
    """Log-probability and entropy at every completion token.

    ``log π(x_t | x_<t) = log_softmax(head(h_{t-1}) / τ)[x_t]``

    Only completion positions reach the head, ``chunk`` rows at a time, and no logits are kept for the backward pass, so
    that peak memory is ``chunk · V`` whatever N and T are. A frozen linear head is read once forward and once for the
    gradient, which is taken at once (see :class:`FrozenHead`); any other is run again in the backward pass.

    Args:
        hidden_NTH: ``[N, T, H]`` last hidden states.
        input_ids_NT: ``[N, T]`` token ids.
        completion_mask_NT: ``[N, T]`` bool, True on completion tokens.
        head: maps ``[M, H]`` hidden states to ``[M, V]`` logits.
        temperature: τ > 0, the sampler's.
        chunk: rows of logits alive at once, >= 1; None takes :data:`CHUNK`, on a CPU
            :data:`CHUNK_ON_CPU` or :data:`CHUNK_FOLDED`.

    Returns:
        Log-probabilities and entropies, ``[N, T]`` each.

    Raises:
        ConfigError: ``temperature`` or ``chunk`` is out of range.
        DataError: the shapes differ, or a completion starts in column 0, where nothing predicts it.
    """
    check_number("temperature", temperature, above=0)
    if chunk is None:
        chunk = _chunk(hidden_NTH, head)
    check_number("chunk", chunk, at_least=1)
    check_same_shape(input_ids=input_ids_NT, completion_mask=completion_mask_NT, hidden=hidden_NTH[..., 0])
    rows, columns = completion_mask_NT.nonzero(as_tuple=True)
    if bool((columns == 0).any()):
        raise DataError(
            "A completion starts in column 0.",
            expected="at least one prompt token before it",
            got=f"{int((columns == 0).sum())} such rows",
            remedy="give every prompt at least one token (a template or a bos token does)",
        )
    hidden_MH, targets_M = hidden_NTH[rows, columns - 1], input_ids_NT[rows, columns]
    parts = []
    # An empty completion still passes through the head once, so that the graph reaches the parameters.
    for states, targets in zip(hidden_MH.split(chunk), targets_M.split(chunk), strict=True):
        if is_frozen_linear(head):
            parts.append(FrozenHead.apply(states, targets, head.weight, head.bias, temperature))
        elif not torch.is_grad_enabled():
            parts.append(_chunk_statistics(states, targets, head, temperature))
        else:
            parts.append(checkpoint(_chunk_statistics, states, targets, head, temperature, use_reentrant=False))
    values = (torch.cat(column) for column in zip(*parts, strict=True))
    return TokenStatistics(*(v.new_zeros(completion_mask_NT.shape).index_put((rows, columns), v) for v in values))


def _chunk(hidden_NTH: Tensor, head: Callable[[Tensor], Tensor]) -> int:
    if hidden_NTH.device.type != "cpu":
        return CHUNK
    return CHUNK_FOLDED if is_frozen_linear(head) and folds(hidden_NTH, head.weight) else CHUNK_ON_CPU


def _chunk_statistics(
    states_MH: Tensor, targets_M: Tensor, head: Callable[[Tensor], Tensor], temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head(states_MH)
    wide = torch.promote_types(logits.dtype, torch.float32)
    logprobs_MV = torch.log_softmax(logits.to(wide) / temperature, dim=-1)
    chosen = logprobs_MV.gather(-1, targets_M.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = entropies(logprobs_MV.exp(), logprobs_MV)
    return chosen, entropy
