"""Supervised fine-tuning on demonstrations: the completion's negative log-likelihood, and nothing of the prompt."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from rairl_lightning.functional import processes
from rairl_lightning.functional.shards import clip_gradients
from rairl_lightning.models.policy import Policy
from rairl_lightning.types import TokenBatch


def sft_losses(policy: Policy, experts: TokenBatch, max_tokens: int) -> Iterator[Tensor]:
    """Token-mean negative log-likelihood of the completions, one part a micro-batch.

    ``L = -1/Σ_n|y_n| · Σ_n Σ_t log π(y_nt | x_n, y_n,<t)``; the parts of all processes add up to L whatever the split.

    Args:
        policy: the model to train.
        experts: ``[N, T]`` demonstrations.
        max_tokens: of one micro-batch, as the policy counts them.

    Yields:
        One scalar with gradient for each micro-batch.
    """
    total = experts.completion_mask.sum().clamp(min=1)
    batches = policy.micro_batches(experts, max_tokens)
    for rows in processes.own(batches):
        yield -policy.logprobs(experts.select(rows)).logprobs.sum() / total
    for rows in processes.idle(batches):
        yield 0.0 * policy.logprobs(experts.select(rows)).logprobs.sum()


def sft_for(
    policy: Policy,
    optimizer: Optimizer,
    batches: Iterable[TokenBatch],
    seconds: float,
    max_tokens: int,
    gradient_clip: float,
) -> float:
    """Fine-tune on one pass over ``batches``, or until ``seconds`` of training are over.

    Args:
        policy: the model to train.
        optimizer: over its trainable parameters.
        batches: demonstrations.
        seconds: wall time, of training steps alone.
        max_tokens: padded tokens of one micro-batch.
        gradient_clip: largest gradient norm.

    Returns:
        The seconds that are left; 0 where the time ran out.
    """
    for experts in batches:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for loss in sft_losses(policy, experts, max_tokens):
            loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        processes.sum_gradients(parameters)
        clip_gradients(parameters, gradient_clip)
        optimizer.step()
        seconds = processes.agreed(seconds - (time.perf_counter() - start), experts.device)
        if seconds <= 0:
            return 0.0
    return seconds


class BestEpoch:
    """Keeps the trainable tensors of the epoch with the best score; higher is better, ties keep the earlier.

    Args:
        patience: epochs without a better score after which :attr:`exhausted` is True.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.score = float("-inf")
        self.epochs_since = 0
        self.state: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether to stop looking."""
        return self.epochs_since >= self.patience

    def offer(self, score: float, state: dict[str, Tensor]) -> None:
        """Compare one epoch; a copy of ``state`` is kept on the CPU if it is the best so far."""
        if score > self.score:
            self.score, self.epochs_since = score, 0
            self.state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        else:
            self.epochs_since += 1

    def state_dict(self) -> dict[str, float | int | dict[str, Tensor]]:
        """Plain values and tensors."""
        return {"score": self.score, "epochs_since": self.epochs_since, "state": self.state}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of :meth:`state_dict`."""
        self.score, self.epochs_since = state["score"], state["epochs_since"]
        self.state = {name: torch.as_tensor(tensor) for name, tensor in state["state"].items()}
