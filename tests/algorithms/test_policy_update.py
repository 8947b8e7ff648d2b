"""A round's policy updates: one, as it always was, and several of them, on whole groups."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gates
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from updating import ALGORITHMS, Make, fit, made

from rairl_lightning.algorithms import policy_update
from rairl_lightning.algorithms.losses import PolicyBatch, corrected
from rairl_lightning.algorithms.members import GroupMembers
from rairl_lightning.algorithms.policy_update import PolicyObjective, minibatches
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.algorithms.seen import SeenByPolicy
from rairl_lightning.components import (
    BalancedExpert,
    ClippedSurrogate,
    CosineWithWarmup,
    TruncatedImportance,
)
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import TokenBatch, TraceIds

# --- One update a round is what it was ----------------------------------------------------------------------------


def as_it_was(module: Any, objective: PolicyObjective, members: GroupMembers, advantages_NT: Tensor) -> None:
    """The one update of a round, written out as it was before there could be several."""
    rollouts, limit, temperature = members.traces, module.max_tokens_per_microbatch, module.sampler.temperature
    seen, tokens, loss = SeenByPolicy(), members.tokens, objective.loss
    old_NT, factors_NT = corrected(module.models.policy, objective.correction, rollouts, temperature, limit)

    def losses() -> Any:
        weights_NT = loss.token_weights(tokens.completion_mask)
        columns = (rollouts.logprobs, old_NT, factors_NT * advantages_NT, weights_NT)
        for rows in module.models.policy.micro_batches(tokens, limit):
            part, sampler, old, advantages, weights = tokens.select_with(rows, *columns)
            reference = module.models.reference.logprobs(part, temperature).logprobs if loss.needs_reference else None
            current = module.models.policy.logprobs(part, temperature)
            output = loss(current.logprobs, old, reference, advantages, weights)
            seen.add({**output.statistics, "entropy": (weights * current.entropy).sum()})
            seen.compare(current.logprobs, sampler, part.completion_mask)
            yield output.loss

    update = module.update_player("policy", losses(), str)
    module.clock.policy_updates += 1
    module.log_update("policy", update)
    module.log_dict(seen.statistics())


@ALGORITHMS
@pytest.mark.parametrize("settings", [{}, {"sampler_correction": TruncatedImportance()}])
def test_one_update_without_expert_is_bit_for_bit_what_it_was(
    base: Path, tmp_path: Path, make: Make, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**more: Any) -> tuple[dict[str, Tensor], list[Any]]:
        trainer = fit(made(make, gates.shared(base, dropout=0.1), **settings, **more), tmp_path)
        rows = [{k: v for k, v in row.items() if not k.startswith(("time", "tokens_"))} for row in trainer.logger.rows]
        return gates.weights(trainer.lightning_module), [sorted(row.items()) for row in rows]

    now, logs = run()
    twice, _ = run(policy_epochs=2)
    monkeypatch.setattr(policy_update, "update_policy", as_it_was)
    before, logs_before = run()
    assert gates.largest_difference(now, before) == 0 and str(logs) == str(logs_before)
    assert gates.largest_difference(now, twice) > 0, "negative control"


# --- Several updates ----------------------------------------------------------------------------------------------


def numbered(prompts: int, size: int) -> PolicyBatch:
    traces = [
        TraceIds([n + 1], [n + 1] * (1 + n % 3), [True] * (1 + n % 3), [(0, 1)] * (1 + n % 3))
        for n in range(prompts * size)
    ]
    tokens = TokenBatch.from_traces(traces, 0)
    column = tokens.input_ids.float()
    return PolicyBatch(tokens, column, column + 100, column + 200, torch.arange(prompts * size) % size == 0, size)


@pytest.mark.parametrize(
    ("prompts", "parts", "sizes"), [(6, 3, [2, 2, 2]), (5, 2, [3, 2]), (2, 5, [1, 1]), (4, 1, [4])]
)
def test_an_epoch_is_every_group_once_and_whole(prompts: int, parts: int, sizes: list[int]) -> None:
    batch, generator = numbered(prompts, 3), torch.Generator().manual_seed(0)
    drawn = list(minibatches(batch, 2, parts, generator))
    assert [len(one.tokens) // 3 for one in drawn] == sizes * 2
    for epoch in (drawn[: len(sizes)], drawn[len(sizes) :]):
        ids = [one.tokens.input_ids[:, 0] - 1 for one in epoch]
        assert sorted(torch.cat(ids).tolist()) == list(range(prompts * 3)), "every trace once"
        for own, one in zip(ids, epoch, strict=True):
            assert torch.equal(own.reshape(-1, 3), own[::3, None] + torch.arange(3)), "groups stay whole, in order"
            assert torch.equal(one.is_expert_N, own % 3 == 0), "columns stay with their rows"
            assert torch.equal(one.old_logprobs_NT[:, 0], own + 101) and torch.equal(one.advantages_NT[:, 0], own + 201)


def test_the_order_changes_between_epochs_and_follows_the_generator() -> None:
    def order(seed: int) -> list[list[int]]:
        drawn = minibatches(numbered(6, 2), 2, 6, torch.Generator().manual_seed(seed))
        return [one.tokens.input_ids[:, 0].tolist() for one in drawn]

    assert order(0) == order(0) != order(1) and order(0)[:6] != order(0)[6:]


@dataclass(frozen=True)
class Spy(ClippedSurrogate):
    """Notes the ratio of every update, before it is made."""

    ratios: list[Tensor] = field(default_factory=list)

    def __call__(self, logprobs: Tensor, old: Tensor, reference: Any, advantages: Tensor, weights: Tensor) -> Any:
        self.ratios.append((logprobs.detach() - old)[weights != 0].exp())
        return super().__call__(logprobs, old, reference, advantages, weights)


@ALGORITHMS
@pytest.mark.parametrize("correction", [{}, {"sampler_correction": TruncatedImportance()}])
def test_the_ratio_is_taken_against_sampling_time_so_that_clipping_bites(
    base: Path, tmp_path: Path, make: Make, correction: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"rounds": 1, "policy_epochs": 2, "policy_optimizer": gates.optimizer(1e-2), **correction}

    def run() -> tuple[list[Tensor], list[float]]:
        spy = Spy(epsilon=0.05)
        trainer = fit(made(make, gates.full(base), policy_loss=spy, **settings), tmp_path)
        assert trainer.lightning_module.clock.policy_updates == trainer.global_step == 2
        return spy.ratios, trainer.logger.having("policy/clip_fraction")

    (first, second), (clipped,) = run()
    assert float((first - 1).abs().max()) < 1e-4 and float((second - 1).abs().max()) > 0.05 and clipped > 0
    losses = policy_update.policy_losses

    def forgetful(pair: Any, loss: Any, expert: Any, batch: PolicyBatch, temperature: float, *rest: Any) -> Any:
        now = pair.policy.score(batch.tokens, 10_000, temperature).logprobs
        return losses(pair, loss, expert, replace(batch, old_logprobs_NT=now), temperature, *rest)

    monkeypatch.setattr(policy_update, "policy_losses", forgetful)
    (_, second), (clipped,) = run()
    assert float((second - 1).abs().max()) < 1e-4 and clipped == 0, "negative control: old ones computed anew"


@ALGORITHMS
def test_schedules_counters_and_logs_follow_the_updates(base: Path, tmp_path: Path, make: Make) -> None:
    schedule = CosineWithWarmup(0.0, 0.5)
    module = made(make, gates.full(base), policy_epochs=2, policy_minibatches=2, policy_schedule=schedule)
    done: list[Any] = []
    update_player = module.update_player
    module.update_player = lambda name, *rest: done.append((name, update_player(name, *rest))) or done[-1][1]
    trainer = fit(module, tmp_path)
    updates = [update for name, update in done if name == "policy"]
    assert len(updates) == module.clock.policy_updates == trainer.global_step == 2 * 4
    assert [one.learning_rate for one in updates] == pytest.approx([1e-3 * schedule.factor(u, 8) for u in range(8)])
    for name in ("loss", "gradient_norm", "update_norm", "learning_rate"):
        means = [np.mean([getattr(one, name) for one in updates[start : start + 4]]) for start in (0, 4)]
        assert trainer.logger.having(f"policy/{name}") == pytest.approx(means)
    assert max(trainer.logger.having("sampler/gap_max")) < 1e-4, "how far the policy has come is no gap"


def test_a_short_last_batch_gives_as_many_updates_as_it_has_prompts(base: Path, tmp_path: Path) -> None:
    module = made(gates.grpo, gates.full(base), policy_minibatches=3)
    fit(module, tmp_path, data=gates.data(source=gates.Gates(train=5), batch_size=3))
    assert module.clock.policy_updates == 3 + 2


class EachStep(Checkpoint):
    def on_train_batch_end(self, trainer: Any, pl_module: RoundsModule, *_: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{pl_module.clock.batches}.ckpt")


@ALGORITHMS
def test_resuming_with_all_of_it_equals_no_stop(base: Path, tmp_path: Path, make: Make) -> None:
    settings = {"rounds": 3, "policy_epochs": 2, "policy_minibatches": 2, "expert_in_group": BalancedExpert()}
    straight = gates.weights(fit(made(make, gates.full(base), **settings), tmp_path, [EachStep()]).lightning_module)
    for stop in (1, 2):
        resumed = fit(made(make, gates.full(base), **settings), tmp_path, ckpt_path=tmp_path / f"{stop}.ckpt")
        assert gates.largest_difference(straight, gates.weights(resumed.lightning_module)) == 0


@pytest.mark.parametrize("wrong", [{"policy_epochs": 0}, {"policy_minibatches": 0}])
@ALGORITHMS
def test_no_update_is_refused(make: Make, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make(None, **wrong)
