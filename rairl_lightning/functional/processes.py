"""Several processes that train one pair: who computes what, and how every one of them comes to know all of it.

What is dear is shared out: sampling by prompts, forward and backward passes by micro-batches. All else is the same in
every process: the batch, the round's traces, draws, weights, advantages, the replay buffer, the clock. Normalisers and
decisions are therefore those of one process, without a component's knowing, and a checkpoint of one is everybody's.

All functions but those that deal rows are collective: every process calls them, in the same order, or all wait. With
one process nothing is sent and nothing is changed. Where weights lie in shards, a model's passes are collective too:
hence :func:`idle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist

from rairl_lightning.functional.shards import is_sharded, local


def count() -> int:
    """Processes that train together, >= 1."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, in [0, count)."""
    return dist.get_rank() if count() > 1 else 0


def own(batches: Sequence[Tensor], rivals_N: Tensor | None = None) -> list[Tensor]:
    """This process's part of the micro-batches of an update; the parts of all are the whole.

    As many micro-batches as there are processes are dealt whole; those that are left are cut into a part for each. No
    part is larger than the micro-batch it comes of.

    Args:
        batches: rows of each micro-batch, the same in every process.
        rivals_N: ``[N]`` int64, for each row the row that must come with it, -1 for none; such a row comes in every
            part where it is needed, and in no other.

    Returns:
        Rows of each micro-batch; none is empty.
    """
    return _dealt(batches, rivals_N, rank(), count())


def idle(batches: Sequence[Tensor], rivals_N: Tensor | None = None) -> list[Tensor]:
    """Rows of passes that this process makes for nothing, after :func:`own`, so that all processes make as many.

    Weights in shards are gathered by all processes at once, for every pass; where they are whole, the time of an idle
    pass would be spent waiting. Arguments as of :func:`own`; each pass is of one row.
    """
    if count() == 1 or not batches:
        return []
    passes = [len(_dealt(batches, rivals_N, place, count())) for place in range(count())]
    return [batches[0][:1]] * (max(passes) - passes[rank()])


def earlier(batches: Sequence[Tensor], rivals_N: Tensor | None = None) -> Tensor:
    """Rows that come in the parts of processes before this one; arguments as of :func:`own`."""
    parts = [rows for place in range(rank()) for rows in _dealt(batches, rivals_N, place, count())]
    return torch.cat([batches[0][:0], *parts])


def _dealt(batches: Sequence[Tensor], rivals_N: Tensor | None, place: int, of: int) -> list[Tensor]:
    """:func:`own` of the process ``place`` among ``of``.

    >>> a, b, c = (torch.tensor(rows) for rows in ([0, 1], [2, 3, 4], [5, 6, 7]))
    >>> [[rows.tolist() for rows in _dealt([a, b, c], None, place, 2)] for place in (0, 1)]
    [[[0, 1], [5, 6]], [[2, 3, 4], [7]]]
    """
    if of == 1:
        return list(batches)
    whole = len(batches) - len(batches) % of
    cut = [_cut(rows, rivals_N, place, of) for rows in batches[whole:]]
    return [*batches[place:whole:of], *(rows for rows in cut if len(rows))]


def _cut(rows: Tensor, rivals_N: Tensor | None, place: int, of: int) -> Tensor:
    """A part of one micro-batch, with the rows that must come with it.

    >>> _cut(torch.tensor([0, 1, 2, 3]), torch.tensor([-1, 0, 0, 0]), 1, 2).tolist()
    [0, 3]
    """
    if rivals_N is None or not (rivals_N[rows] >= 0).any():
        return rows.tensor_split(of)[place]
    challengers = rows[rivals_N[rows] >= 0].tensor_split(of)[place]
    return torch.cat([rivals_N[challengers].unique(), challengers])


def share(things: int) -> range:
    """This process's run of ``things`` things in a row; the runs differ by one in length at most."""
    return range(things * rank() // count(), things * (rank() + 1) // count())


def summed(*values: Tensor) -> tuple[Tensor, ...]:
    """Each tensor added up over the processes, in each of which it has the same shape."""
    if count() == 1:
        return values
    out = tuple(value.detach().clone(memory_format=torch.contiguous_format) for value in values)
    for value in out:
        dist.all_reduce(value)
    return out


def total(value: float, device: torch.device) -> float:
    """One number added up over the processes; ``device`` is where the processes' messages may lie."""
    return value if count() == 1 else float(summed(torch.tensor(value, dtype=torch.float64, device=device))[0])


def largest(value: int, device: torch.device) -> int:
    """The largest of the processes' numbers."""
    if count() == 1:
        return value
    out = torch.tensor(value, device=device)
    dist.all_reduce(out, op=dist.ReduceOp.MAX)
    return int(out)


def joined(values_M: Tensor) -> Tensor:
    """The processes' rows one after another, ``[ΣM, …]``; only M may differ."""
    if count() == 1:
        return values_M
    lengths = torch.zeros(count(), dtype=torch.int64, device=values_M.device)
    lengths[rank()] = len(values_M)
    (lengths,) = summed(lengths)
    first = int(lengths[: rank()].sum())
    out = values_M.new_zeros(int(lengths.sum()), *values_M.shape[1:])
    out[first : first + len(values_M)] = values_M
    return summed(out)[0]


def agreed(value: float, device: torch.device) -> float:
    """The first process's number, in all of them: what a clock says is no one else's to say."""
    if count() == 1:
        return value
    out = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(out, src=0)
    return float(out)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes in place, in one message a dtype; a parameter without one counts as 0.

    It is called once an update, so that processes may differ in how many backward passes they made. Of a parameter in
    shards every backward pass has left the mean over the processes, which becomes the sum.
    """
    if count() == 1:
        return
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        if not is_sharded(parameter):
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        elif parameter.grad is not None:
            local(parameter.grad).mul_(count())
    for group in by_dtype.values():
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in group])
        dist.all_reduce(flat)
        for parameter, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
            parameter.grad = part.view_as(parameter).clone()
