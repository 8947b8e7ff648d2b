"""The demonstration as a member of its group: what it counts for, and what not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gates
import numpy as np
import pytest
import torch
from torch import Tensor
from updating import ALGORITHMS, SAME, Make, fit, made, sgd

from rairl_lightning.algorithms.members import GroupMembers
from rairl_lightning.callbacks import Health
from rairl_lightning.callbacks.health import KLToReference
from rairl_lightning.components import (
    Advantage,
    BalancedExpert,
    ClippedSurrogate,
    ExpertInGroup,
    GroupNormalised,
    KLInReward,
    NoExpert,
    SingleExpert,
    TruncatedImportance,
)
from rairl_lightning.types import Demonstration, Rollouts, TokenBatch, TraceIds


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
