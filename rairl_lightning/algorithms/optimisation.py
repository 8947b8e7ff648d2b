"""One player's update under manual optimisation: accumulate, clip, step, schedule, measure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rairl_lightning.components.critics import ParameterGroup
from rairl_lightning.components.schedules import Schedule
from rairl_lightning.errors import TrainingError
from rairl_lightning.functional import processes
from rairl_lightning.functional.shards import clip_gradients, norm

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
PATIENCE = 10  # updates in a row that may leave a player where it was
MOST_SKIPPED = 3  # updates in a row of a player that may be left out because they would not have been finite


def adamw(parameters: Any) -> Optimizer:
    """The paper's AdamW, with the lowest learning rate that both of its players use."""
    return AdamW(parameters, lr=1e-6, betas=(0.9, 0.99), weight_decay=0.1)


@dataclass(frozen=True)
class Player:
    """What moves together: parameters, their optimiser and schedule, and how far one update may go.

    Attributes:
        name: as in logs.
        optimizer: over ``parameters``.
        scheduler: stepped once an update.
        gradient_clip: largest gradient norm, > 0.
    """

    name: str
    optimizer: Optimizer
    scheduler: LambdaLR
    gradient_clip: float
    _still: list[int] = field(default_factory=lambda: [0])
    _skipped: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def build(
        cls,
        name: str,
        groups: Sequence[ParameterGroup],
        factory: OptimizerFactory,
        schedule: Schedule,
        updates: int,
        gradient_clip: float,
    ) -> Player:
        """Make the optimiser and its schedule over ``updates`` updates."""
        optimizer = factory([{"params": group.parameters, **group.options} for group in groups])

        def scaled(factor: float) -> Callable[[int], float]:
            return lambda update: factor * schedule.factor(update, updates)

        scheduler = LambdaLR(optimizer, [scaled(group.lr_factor) for group in groups])
        return cls(name, optimizer, scheduler, gradient_clip)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the optimiser."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate from here on: the schedule builds on ``base_lrs``, and checkpoints hold them."""
        self.scheduler.base_lrs = [factor * rate for rate in self.scheduler.base_lrs]
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["lr"]

    def update(
        self,
        losses: Iterable[Tensor],
        backward: Callable[[Tensor], None],
        step: Callable[[], None],
        skip_nonfinite: bool = False,
    ) -> Update:
        """One optimiser step on the sum of ``losses``, those of all processes.

        Args:
            losses: one scalar a micro-batch, made lazily so that only one graph lives at a time; their sum is the
                loss, so the split changes nothing.
            backward: Lightning's ``manual_backward``.
            step: takes the optimiser's step.
            skip_nonfinite: somebody mends what is not finite, so that any number of such updates may be skipped.

        Returns:
            What it did; where the gradient or the loss is not finite, nothing.

        Raises:
            TrainingError: several updates in a row were not finite, or the player has not moved in any of several.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            backward(loss)
            total += float(loss.detach())
        processes.sum_gradients(self.parameters)
        total = processes.total(total, self.parameters[0].device)
        gradient_norm = clip_gradients(self.parameters, self.gradient_clip)
        learning_rate = self.optimizer.param_groups[0]["lr"]
        if not math.isfinite(gradient_norm + total):
            self.skip(f"loss {total}, gradient norm {gradient_norm}", skip_nonfinite)
            return Update(total, gradient_norm, 0.0, learning_rate)
        self._skipped[0] = 0
        before = [parameter.detach().clone() for parameter in self.parameters]
        step()
        self.scheduler.step()
        update_norm = _distance(self.parameters, before)
        self._still[0] = 0 if update_norm > 0 else self._still[0] + 1
        if self._still[0] >= PATIENCE:
            raise TrainingError(
                f"The {self.name} has not moved for {PATIENCE} updates.",
                expected="an update norm above 0",
                got=f"gradient norm {gradient_norm}, learning rate {learning_rate}",
                remedy="check that its loss reaches its parameters and that its learning rate is not 0",
            )
        return Update(total, gradient_norm, update_norm, learning_rate)

    def skip(self, why: str, mended: bool) -> None:
        """Count an update that is not made.

        Args:
            why: what of it was not finite.
            mended: somebody sees to it, and it may happen any number of times.

        Raises:
            TrainingError: the last ones were not made either, and nobody mends it.
        """
        self._skipped[0] += 1
        if self._skipped[0] > MOST_SKIPPED and not mended:
            raise TrainingError(
                f"The updates of the {self.name} are not finite; the last {self._skipped[0]} were not made.",
                expected="finite losses, gradients, rewards and log-probabilities",
                got=why,
                remedy="lower its learning rate, or look at the traces that were named; the last checkpoint is whole",
            )


@dataclass(frozen=True)
class Update:
    """What one update did; norms are Euclidean, over all parameters of the player."""

    loss: float
    gradient_norm: float
    update_norm: float
    learning_rate: float

    @classmethod
    def mean(cls, updates: Sequence[Update]) -> Update:
        """What several updates did on average."""
        columns = zip(
            *((one.loss, one.gradient_norm, one.update_norm, one.learning_rate) for one in updates), strict=True
        )
        return cls(*(sum(column) / len(updates) for column in columns))

    @property
    def skipped(self) -> bool:
        """Whether it was not made, because it would not have been finite."""
        return not math.isfinite(self.gradient_norm + self.loss)


@torch.no_grad()
def _distance(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    return float(norm(now - then for now, then in zip(parameters, before, strict=True)))


class Stopwatch:
    """Seconds and tokens of each phase of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.tokens: dict[str, int] = {}
        self.spent = 0.0  # seconds of all phases so far

    @contextmanager
    def __call__(self, phase: str, tokens: int = 0) -> Iterator[None]:
        """Time a block and add it, and the tokens it processes, to ``phase``."""
        start = time.perf_counter()
        yield
        passed = time.perf_counter() - start
        self.spent += passed
        self.seconds[phase] = self.seconds.get(phase, 0.0) + passed
        self.count(phase, tokens)

    def count(self, phase: str, tokens: int) -> None:
        """Add tokens that were not known beforehand."""
        self.tokens[phase] = self.tokens.get(phase, 0) + tokens

    def metrics(self) -> dict[str, float]:
        """``time/<phase>`` in seconds and ``tokens_per_second/<phase>``; then starts afresh."""
        seconds, tokens, self.seconds, self.tokens = self.seconds, self.tokens, {}, {}
        times = {f"time/{phase}": value for phase, value in seconds.items()}
        return times | {f"tokens_per_second/{phase}": count / seconds[phase] for phase, count in tokens.items()}
