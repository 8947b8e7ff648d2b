"""A round's policy updates: several of them, on whole groups; and the demonstration as a member of its group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gates
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rairl_lightning.algorithms import policy_update
from rairl_lightning.algorithms.losses import PolicyBatch, corrected
from rairl_lightning.algorithms.members import GroupMembers
from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.algorithms.policy_update import PolicyObjective, minibatches
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.algorithms.seen import SeenByPolicy
from rairl_lightning.callbacks import Health
from rairl_lightning.callbacks.health import KLToReference
from rairl_lightning.components import (
    Advantage,
    BalancedExpert,
    ClippedSurrogate,
    CosineWithWarmup,
    ExpertInGroup,
    GroupNormalised,
    KLInReward,
    NoExpert,
    SingleExpert,
    TruncatedImportance,
)
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import Demonstration, Rollouts, TokenBatch, TraceIds

SAME = 1e-5
Make = Callable[..., RoundsModule]
ALGORITHMS = pytest.mark.parametrize("make", [gates.module, gates.grpo])


def fit(module: RoundsModule, folder: Path, callbacks: Any = (), ckpt_path: Any = None, data: Any = None) -> Any:
    trainer = gates.trainer(folder, callbacks)
    trainer.fit(module, datamodule=data or gates.data(batch_size=4), ckpt_path=ckpt_path)
    return trainer


def made(make: Make, pair: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return make(pair, **{**({"warmup": Warmup(0)} if make is gates.module else {}), "rounds": 2, **settings})


def sgd(lr: float = 0.1) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


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


# --- The demonstration in the group -------------------------------------------------------------------------------


def traces(*lengths: int, first: int = 1) -> TokenBatch:
    made = [TraceIds([9], [n] * size, [True] * size, [(0, 1)] * size) for n, size in enumerate(lengths, first)]
    return TokenBatch.from_traces(made, 0)


def by_hand() -> GroupMembers:
    rollouts, experts = traces(2, 3, 1, 2), traces(7, 1, first=11)  # one longer than all rollouts
    logprobs = -rollouts.input_ids.float() * rollouts.completion_mask
    own = -experts.input_ids.float() * experts.completion_mask
    sampled = Rollouts(rollouts, logprobs, torch.tensor([True, False, True, True]), ("a", "b", "c", "d"), 2)
    return GroupMembers.with_experts(sampled, experts, own, ("E", "F"), 0)


def test_the_demonstration_is_the_last_of_its_group_uncut_and_flagged() -> None:
    members = by_hand()
    assert members.traces.texts == ("a", "b", "E", "c", "d", "F") and members.traces.group_size == 3
    assert members.is_expert_N.tolist() == [False, False, True] * 2 and members.rollouts_a_prompt == 2
    assert members.tokens.completion_lengths_N.tolist() == [2, 3, 7, 1, 2, 1]
    assert [trace.completion_ids[0] for trace in members.tokens.traces()] == [1, 2, 11, 3, 4, 12]
    assert members.traces.finished.tolist() == [True, False, True, True, True, True]
    expected = torch.where(members.tokens.completion_mask, -members.tokens.input_ids.float(), 0.0)
    assert torch.equal(members.traces.logprobs, expected), "log-probabilities stay with their tokens"


@dataclass(frozen=True)
class Notes(Advantage):
    """GRPO's advantage, and a note of what it was given."""

    seen: list[tuple[Tensor, Tensor, int, Tensor]] = field(default_factory=list)

    def __call__(self, rewards_NT: Tensor, mask_NT: Tensor, group_size: int, grid_NT: Any = None) -> Tensor:
        out = GroupNormalised()(rewards_NT, mask_NT, group_size, grid_NT)
        self.seen.append((rewards_NT, mask_NT, group_size, out))
        return out


class LongGates(gates.Gates):
    """The expert, who says more than a rollout may."""

    def splits(self) -> Any:
        splits = super().splits()
        longer = tuple(
            Demonstration(one.id, one.prompt, "1 + 2 = 3\n" * 4 + one.reasoning, one.answer) for one in splits.train
        )
        return replace(splits, train=longer)


@ALGORITHMS
def test_a_round_with_the_expert(base: Path, tmp_path: Path, make: Make) -> None:
    notes, data = Notes(), gates.data(source=LongGates(), batch_size=4)
    module = made(make, gates.full(base), advantage=notes, expert_in_group=SingleExpert(), rounds=1)
    trainer = fit(module, tmp_path, data=data)
    ((rewards_NT, mask_NT, size, advantages_NT),) = notes.seen
    assert size == 5 and len(rewards_NT) == 20
    lengths = mask_NT.sum(1).reshape(4, 5)
    longest = len(module.codec.encode_demonstration(LongGates().splits().train[0]).completion_ids)
    assert (lengths[:, -1] == longest).all() and int(lengths[:, :-1].max()) <= 20 < longest, "it is not cut"
    means = ((rewards_NT * mask_NT).sum(1) / mask_NT.sum(1)).double().numpy().reshape(4, 5)
    expected = (means - means.mean(1, keepdims=True)) / (means.std(1, keepdims=True) + 1e-4)
    first = advantages_NT[torch.arange(20), mask_NT.long().argmax(1)].double().numpy().reshape(4, 5)
    assert np.allclose(first, expected, atol=1e-3)
    row = next(row for row in trainer.logger.rows if "reward/expert" in row)
    assert row["reward/mean"] == pytest.approx(means[:, :-1].mean(), abs=1e-5), "rollouts alone"
    assert row["reward/expert"] == pytest.approx(means[:, -1].mean(), abs=1e-5)
    assert row["rollouts/length"] == pytest.approx(float(lengths[:, :-1].double().mean()))
    assert row["policy/ratio"] == pytest.approx(1, abs=1e-4) and row["sampler/gap_max"] < 1e-4
    if make is gates.grpo:
        assert means[:, -1] == pytest.approx([1.1] * 4, abs=1e-5), "an expert agrees with itself"


def test_the_expert_is_in_no_statistics_of_rollouts_nor_in_the_replay(base: Path, tmp_path: Path) -> None:
    """The policy's figures before it moves are those without the expert, whatever he does to the loss."""

    def row(expert: ExpertInGroup) -> tuple[dict[str, float], Any]:
        settings = {"expert_in_group": expert, "rounds": 1, "policy_optimizer": gates.optimizer(1e-9)}
        data = gates.data(source=LongGates(), batch_size=4, replay_rounds=3)
        trainer = fit(made(gates.module, gates.full(base), **settings), tmp_path, data=data)
        return trainer.logger.rows[-1], trainer.datamodule.buffer.state_dict()

    plain, buffer = row(NoExpert())
    for expert in (SingleExpert(), BalancedExpert()):
        joined, buffer_joined = row(expert)
        for name in (
            "rollouts/length",
            "policy/entropy",
            "policy/kl",
            "policy/ratio",
            "sampler/gap_mean",
            "reward/mean",
        ):
            assert joined[name] == pytest.approx(plain[name], abs=1e-5), name
        assert joined["policy/gradient_norm"] != pytest.approx(plain["policy/gradient_norm"], rel=0.05), "it does count"
        for one, other in zip(buffer["rounds"], buffer_joined["rounds"], strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_expert_is_penalised_like_the_others(base: Path, tmp_path: Path) -> None:
    notes = Notes()
    loss, penalty = ClippedSurrogate(kl_coef=0.0), KLInReward(1.0)
    settings = {"advantage": notes, "policy_loss": loss, "reward_penalty": penalty, "rounds": 1}
    module = made(gates.grpo, gates.full(base), expert_in_group=SingleExpert(), **settings)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.models.reference.parameters():
            parameter.mul_(0.9)
    fit(module, tmp_path)
    ((paid_NT, mask_NT, _, _),) = notes.seen
    experts = paid_NT[4::5][mask_NT[4::5]]
    assert float((experts - 1.1).abs().min()) > 1e-6, "every token of his costs its divergence"


@dataclass(frozen=True)
class SeenPenalty(KLInReward):
    """Notes what the divergence is taken of."""

    seen: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    def __call__(self, rewards_NT: Tensor, logprobs_NT: Tensor, reference_NT: Any, mask_NT: Tensor) -> Tensor:
        self.seen.append(tuple(one.double().numpy() for one in (logprobs_NT, reference_NT, mask_NT)))
        return super().__call__(rewards_NT, logprobs_NT, reference_NT, mask_NT)


@ALGORITHMS
def test_a_kl_in_the_reward_is_logged_for_the_sign_of_drift(base: Path, tmp_path: Path, make: Make) -> None:
    penalty, health = SeenPenalty(0.1), Health([KLToReference(warning=1e3, collapse=1e3)])
    settings = {"policy_loss": ClippedSurrogate(kl_coef=0.0), "reward_penalty": penalty, "rounds": 1}
    module = made(make, gates.full(base), expert_in_group=SingleExpert(), **settings)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.models.reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    (logged,) = fit(module, tmp_path, [health]).logger.having("policy/kl")
    ((policy, reference, mask),) = penalty.seen
    traces = ((np.exp(reference - policy) - 1 - (reference - policy)) * mask).sum(axis=1) / mask.sum(axis=1)
    rollouts = np.arange(len(traces)) % 5 != 4
    assert logged == pytest.approx(traces[rollouts].mean(), rel=1e-4) and logged > 1e-3
    assert logged != pytest.approx(traces.mean(), rel=1e-3), "control: the demonstrations are no rollouts"
    assert health.watches[0].value == logged, "the sign has something to read"


def test_without_any_kl_none_is_logged(base: Path, tmp_path: Path) -> None:
    module = made(gates.grpo, gates.full(base), policy_loss=ClippedSurrogate(kl_coef=0.0), rounds=1)
    assert fit(module, tmp_path).logger.having("policy/kl") == []


@pytest.mark.parametrize("expert", [SingleExpert(), BalancedExpert()])
@pytest.mark.parametrize("more", [{}, {"sampler_correction": TruncatedImportance(), "policy_minibatches": 2}])
def test_the_micro_batch_split_changes_nothing(
    base: Path, tmp_path: Path, expert: ExpertInGroup, more: dict[str, Any]
) -> None:
    def run(limit: int, member: ExpertInGroup = expert) -> tuple[dict[str, Tensor], dict[str, float]]:
        settings = {"expert_in_group": member, "max_tokens_per_microbatch": limit, "gradient_clip": 1e9, **more}
        module = made(gates.grpo, gates.full(base), rounds=1, policy_optimizer=sgd(), **settings)
        row = fit(module, tmp_path, data=gates.data(source=LongGates(), batch_size=4)).logger.rows[-1]
        return gates.weights(module), {k: v for k, v in row.items() if k.startswith(("policy/", "sampler/", "reward/"))}

    (whole, row), (parts, row_of_parts) = run(16384), run(45)
    assert gates.largest_difference(whole, parts) < SAME
    assert row == pytest.approx(row_of_parts, abs=1e-4)
    assert gates.largest_difference(whole, run(16384, NoExpert())[0]) > 10 * SAME, "negative control: he does count"


def test_balanced_and_single_differ(base: Path, tmp_path: Path) -> None:
    single, balanced = (
        gates.weights(
            fit(
                made(gates.grpo, gates.full(base), expert_in_group=one, policy_optimizer=sgd()), tmp_path
            ).lightning_module
        )
        for one in (SingleExpert(), BalancedExpert())
    )
    assert gates.largest_difference(single, balanced) > SAME
