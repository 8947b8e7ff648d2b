"""Micro-batches by tokens, not by rows: short traces travel together, and memory stays level."""

import torch
from torch import Tensor

from rairl_lightning.functional._checks import check_number, check_same_shape


def token_budget_split(lengths_N: Tensor, max_tokens: int) -> list[Tensor]:
    """Split rows into micro-batches whose *padded* size fits a budget.

    ``rows · longest <= max_tokens``, longest first: padding is least, and an out-of-memory shows at once. A row
    longer than the budget travels alone.

    Args:
        lengths_N: ``[N]`` real tokens of each row.
        max_tokens: padded tokens of one micro-batch, >= 1.

    Returns:
        Row indices of each micro-batch; every row once, the same split for the same lengths.

    Raises:
        ConfigError: ``max_tokens`` is below 1.

    >>> [rows.tolist() for rows in token_budget_split(torch.tensor([3, 9, 4, 4]), max_tokens=12)]
    [[1], [2, 3, 0]]
    """
    check_number("max_tokens", max_tokens, at_least=1)
    order = torch.argsort(lengths_N, descending=True, stable=True)
    batches = []
    while len(order):
        longest = max(1, int(lengths_N[order[0]]))
        rows = max(1, max_tokens // longest)
        batches.append(order[:rows])
        order = order[rows:]
    return batches


def prompt_budget_split(
    lengths_N: Tensor, prompt_lengths_N: Tensor, prompts_N: Tensor, max_tokens: int
) -> list[Tensor]:
    """Split rows for a model that reads no padding and a prompt once for all its traces in a micro-batch.

    ``Σ prompts + Σ completions <= max_tokens``. Traces of one prompt travel together where the budget allows, prompts
    with the longest traces first. A row longer than the budget travels alone.

    Args:
        lengths_N: ``[N]`` real tokens of each row.
        prompt_lengths_N: ``[N]`` those of its prompt.
        prompts_N: ``[N]`` int64, which prompt it has: equal numbers for equal prompts.
        max_tokens: tokens that the model reads in one micro-batch, >= 1.

    Returns:
        Row indices of each micro-batch; every row once, the same split for the same input.

    Raises:
        ConfigError: ``max_tokens`` is below 1.
        DataError: the shapes differ.

    >>> lengths, prompts = torch.tensor([6, 9, 7, 8]), torch.tensor([0, 1, 0, 0])
    >>> [rows.tolist() for rows in prompt_budget_split(lengths, torch.tensor([4, 5, 4, 4]), prompts, max_tokens=13)]
    [[1], [3, 2, 0]]
    """
    check_number("max_tokens", max_tokens, at_least=1)
    check_same_shape(lengths=lengths_N, prompt_lengths=prompt_lengths_N, prompts=prompts_N)
    lengths, shared = lengths_N.tolist(), prompt_lengths_N.tolist()
    groups: dict[int, list[int]] = {}
    for row, prompt in sorted(enumerate(prompts_N.tolist()), key=lambda pair: -lengths[pair[0]]):
        groups.setdefault(prompt, []).append(row)
    batches: list[list[int]] = []
    room = 0
    for rows in groups.values():
        prompt = shared[rows[0]]
        whole = prompt + sum(lengths[row] - prompt for row in rows)
        opens = not batches or whole > room  # parted, a group would have its prompt read twice
        room -= prompt
        for row in rows:
            own = lengths[row] - prompt
            if opens or own > room:
                batches.append([])
                room, opens = max_tokens - prompt, False
            batches[-1].append(row)
            room -= own
    return [torch.tensor(rows, device=lengths_N.device) for rows in batches]


def paired_budget_split(lengths_N: Tensor, rivals_N: Tensor, max_tokens: int) -> list[Tensor]:
    """Micro-batches that never part a trace from the demonstration it is compared with.

    Each holds some traces of one or more prompts and, once, the demonstration of each; a demonstration therefore
    comes again where its traces fill several. Traces in no pair are left out. Padded sizes as in
    :func:`token_budget_split`, but a pair longer than the budget travels alone.

    Args:
        lengths_N: ``[N]`` real tokens of each row.
        rivals_N: ``[N]`` int64, row of the demonstration each trace is compared with, -1 for none.
        max_tokens: padded tokens of one micro-batch, >= 1.

    Returns:
        Row indices of each micro-batch; every row with a rival in exactly one. All rows, as in
        :func:`token_budget_split`, where nothing is paired.

    Raises:
        ConfigError: ``max_tokens`` is below 1.
        DataError: the shapes differ.

    >>> lengths, rivals = torch.tensor([4, 4, 3, 2, 9]), torch.tensor([-1, 0, 0, 0, -1])
    >>> [rows.tolist() for rows in paired_budget_split(lengths, rivals, max_tokens=12)]
    [[0, 1, 2], [0, 3]]
    """
    check_number("max_tokens", max_tokens, at_least=1)
    check_same_shape(lengths=lengths_N, rivals=rivals_N)
    lengths, rivals = lengths_N.tolist(), rivals_N.tolist()
    challengers = [row for row, rival in enumerate(rivals) if rival >= 0]
    if not challengers:
        return token_budget_split(lengths_N, max_tokens)
    challengers.sort(key=lambda row: (-lengths[rivals[row]], rivals[row], -lengths[row], row))
    batches: list[list[int]] = [[]]
    for row in challengers:
        grown = batches[-1] + [new for new in (rivals[row], row) if new not in batches[-1]]
        if batches[-1] and len(grown) * max(1, *(lengths[r] for r in grown)) > max_tokens:
            batches.append([rivals[row], row])
        else:
            batches[-1] = grown
    return [torch.tensor(rows, device=lengths_N.device) for rows in batches]


def local_rivals(rivals_N: Tensor, rows: Tensor) -> Tensor:
    """The same rivals, counted within a micro-batch.

    Args:
        rivals_N: ``[N]`` int64, row of the demonstration of each trace of the whole update, -1 for none.
        rows: ``[M]`` the micro-batch's rows of it.

    Returns:
        ``[M]`` int64, -1 where there is none or it is not in this micro-batch.

    >>> local_rivals(torch.tensor([-1, 0, 0, 0]), torch.tensor([3, 0])).tolist()
    [1, -1]
    """
    places = rivals_N.new_full((len(rivals_N) + 1,), -1)  # the last place is read by index -1
    places[rows] = torch.arange(len(rows), device=rows.device)
    return places[rivals_N[rows]]
