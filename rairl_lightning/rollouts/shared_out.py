"""Sampling by several processes: each draws for its own prompts, and all get every trace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from rairl_lightning.functional.processes import count, largest, share, summed
from rairl_lightning.models import Policy, TraceCodec
from rairl_lightning.rollouts.base import PartOfDraws, Sampler
from rairl_lightning.rollouts.stepwise import collect
from rairl_lightning.types import Rollouts


class SharedOut(Sampler):
    """Another sampler, whose prompts the processes share; groups are never split.

    The traces are those of one process: a prompt's draws depend on its place among all prompts, not on who samples it.
    Every process must call it. A sharded policy is gathered meanwhile, so that no process waits for another's tokens.

    Args:
        sampler: what each process samples with.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.temperature = sampler, sampler.temperature

    def metrics(self) -> dict[str, float]:
        """Of this process's sampler."""
        return self.sampler.metrics()

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        codec: TraceCodec,
        generator: torch.Generator | PartOfDraws,
        *,
        temperature: float | None = None,
    ) -> Rollouts:
        """See :meth:`Sampler.sample`."""
        sample = partial(self.sampler.sample, policy, temperature=temperature)
        if count() == 1 or isinstance(generator, PartOfDraws):  # a part is somebody else's to share out
            with policy.gathered():
                return sample(prompts, group_size, codec, generator)
        mine = share(len(prompts))
        part = PartOfDraws(generator, mine.start, len(prompts))
        with policy.gathered():
            rollouts = sample(prompts[mine.start : mine.stop], group_size, codec, part)
        drawn = _everybodys(rollouts, mine.start * group_size, len(prompts) * group_size)
        return collect(prompts, drawn, group_size, codec, policy.device)


def _everybodys(rollouts: Rollouts, first: int, rows: int) -> list[tuple[list[int], Tensor]]:
    """Ids and log-probabilities of all processes' completions, of which ``rollouts`` are rows from ``first`` on."""
    tokens = rollouts.tokens
    lengths_N = tokens.completion_lengths_N
    width = largest(int(lengths_N.max()) if len(lengths_N) else 0, tokens.device)
    ids_NT = torch.zeros(rows, width, dtype=torch.int64, device=tokens.device)
    logprobs_NT = torch.zeros(rows, width, device=tokens.device)
    all_lengths_N = lengths_N.new_zeros(rows)
    all_lengths_N[first : first + len(rollouts)] = lengths_N
    filled_NT = torch.arange(width, device=tokens.device) < all_lengths_N[:, None]  # only own rows are filled yet
    ids_NT[filled_NT] = tokens.input_ids[tokens.completion_mask]
    logprobs_NT[filled_NT] = rollouts.logprobs[tokens.completion_mask]
    ids_NT, logprobs_NT, all_lengths_N = (one.cpu() for one in summed(ids_NT, logprobs_NT, all_lengths_N))
    lengths = all_lengths_N.tolist()
    return [(ids_NT[row, :length].tolist(), logprobs_NT[row, :length]) for row, length in enumerate(lengths)]
