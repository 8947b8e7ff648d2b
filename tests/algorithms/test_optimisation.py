"""One update of a player, on two numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from rairl_lightning.algorithms.optimisation import MOST_SKIPPED, PATIENCE, Player, Stopwatch, Update
from rairl_lightning.components import ParameterGroup
from rairl_lightning.components.schedules import Constant
from rairl_lightning.errors import TrainingError


@dataclass
class Game:
    weight: Tensor = field(default_factory=lambda: torch.nn.Parameter(torch.tensor([3.0, 4.0])))
    clip: float = 1e9
    rate: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        sgd = lambda parameters: torch.optim.SGD(parameters, lr=self.rate)  # noqa: E731
        self.player = Player.build(
            "policy", [ParameterGroup([self.weight], 1.0, {})], sgd, Constant(self.warmup), 10, self.clip
        )

    def update(self, losses: Iterable[Tensor] | None = None) -> Update:
        parts = losses if losses is not None else iter([(self.weight**2).sum() / 2])
        return self.player.update(parts, lambda loss: loss.backward(), self.player.optimizer.step)


def test_an_update_by_hand() -> None:
    game = Game()
    done = game.update()
    assert game.weight.tolist() == pytest.approx([2.7, 3.6])
    assert (done.loss, done.gradient_norm, done.update_norm) == pytest.approx((12.5, 5.0, 0.5))
    assert done.learning_rate == 0.1


def test_parts_add_up_and_each_is_made_after_the_last_was_used() -> None:
    game, alive = Game(), []

    def parts() -> Iterable[Tensor]:
        for index in range(2):
            assert (game.weight.grad is not None) == (index > 0), "one graph at a time"
            alive.append(index)
            yield game.weight[index] ** 2 / 2

    done = game.update(parts())
    assert game.weight.tolist() == pytest.approx([2.7, 3.6]) and done.loss == pytest.approx(12.5)


def test_the_gradient_is_clipped_and_the_norm_reported_before() -> None:
    game = Game(clip=1.0)
    done = game.update()
    assert (done.gradient_norm, done.update_norm) == pytest.approx((5.0, 0.1), rel=1e-4)


def test_gradients_of_another_backward_do_not_leak_in() -> None:
    game = Game()
    (100 * game.weight.sum()).backward()
    assert game.update().gradient_norm == pytest.approx(5.0)


def test_the_schedule_moves_once_an_update() -> None:
    game = Game(warmup=2)
    assert [round(game.update().learning_rate, 3) for _ in range(3)] == [0.05, 0.1, 0.1]


def test_standing_still_is_an_error_only_in_a_row() -> None:
    game = Game()
    for _ in range(3):
        for _ in range(PATIENCE - 1):
            game.update([0.0 * game.weight.sum()])
        game.update()
    for _ in range(PATIENCE - 1):
        game.update([0.0 * game.weight.sum()])
    with pytest.raises(TrainingError, match="policy has not moved"):
        game.update([0.0 * game.weight.sum()])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float) -> None:
    game = Game()
    for _ in range(MOST_SKIPPED):
        assert game.update([bad * game.weight.sum()]).skipped
    with pytest.raises(TrainingError, match="updates of the policy are not finite"):
        game.update([bad * game.weight.sum()])
    assert game.weight.tolist() == [3.0, 4.0]


def test_only_skips_in_a_row_are_too_many() -> None:
    game = Game()
    for _ in range(MOST_SKIPPED):
        game.update([float("nan") * game.weight.sum()])
        assert not game.update().skipped


def test_a_stopwatch_adds_up_and_starts_afresh() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch("score", 10):
            sum(range(1000))
    watch.count("score", 5)
    metrics = watch.metrics()
    assert metrics["tokens_per_second/score"] == pytest.approx(25 / metrics["time/score"])
    assert watch.metrics() == {} and watch.spent == metrics["time/score"]


def test_a_bad_update_can_be_skipped_instead() -> None:
    game = Game()
    for _ in range(2 * MOST_SKIPPED):
        done = game.player.update([float("nan") * game.weight.sum()], lambda loss: loss.backward(), lambda: None, True)
    assert done.skipped and done.update_norm == 0 and game.weight.tolist() == [3.0, 4.0]
    assert not game.update().skipped and game.weight.tolist() == pytest.approx([2.7, 3.6]), "nothing stays"


def test_a_scaled_learning_rate_stays_scaled_under_the_schedule() -> None:
    game = Game(warmup=4)
    rates = [game.update().learning_rate]
    game.player.scale_learning_rate(0.5)
    rates += [game.update().learning_rate for _ in range(4)]
    assert rates == pytest.approx([0.025, 0.025, 0.0375, 0.05, 0.05])
