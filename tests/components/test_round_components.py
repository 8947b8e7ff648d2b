"""What a round does around its losses: the KL in the reward, the sampler's gap, the discriminator's updates."""

import pytest
import torch

from rairl_lightning.components import (
    AurocBand,
    EstimateK1,
    EstimateK2,
    EstimateK3,
    Fixed,
    KLInReward,
    NoPenalty,
    TruncatedImportance,
    Uncorrected,
)
from rairl_lightning.errors import ConfigError


@pytest.fixture
def tensors(draw, mask):
    return [draw(*mask.shape) * mask for _ in range(3)]


def test_the_kl_is_taken_from_the_reward(tensors, mask):
    rewards, logprobs, reference = tensors
    ours = KLInReward(0.5)(rewards, logprobs, reference, mask)
    torch.testing.assert_close(ours, (rewards - 0.5 * (logprobs - reference)) * mask)
    others = [KLInReward(0.5, k)(rewards, logprobs, reference, mask) for k in (EstimateK2(), EstimateK3())]
    for other in (*others, KLInReward(0.4)(rewards, logprobs, reference, mask)):
        with pytest.raises(AssertionError):  # control
            torch.testing.assert_close(other, ours)
    assert torch.equal(NoPenalty()(rewards, logprobs, None, mask), rewards)
    assert KLInReward(estimate=EstimateK1()).needs_reference and not NoPenalty().needs_reference
    holes = torch.where(mask, reference, torch.nan)
    assert torch.equal(KLInReward(0.5)(rewards, logprobs, holes, mask), ours)


def test_equal_policies_are_not_penalised(tensors, mask):
    rewards, logprobs, _ = tensors
    assert torch.equal(KLInReward()(rewards, logprobs, logprobs, mask), rewards)


def test_the_reward_carries_no_gradient_of_the_policy(tensors, mask):
    rewards, logprobs, reference = tensors
    assert not KLInReward()(rewards, logprobs.requires_grad_(), reference, mask).requires_grad


def test_the_samplers_gap(tensors, mask):
    trainer, sampler, _ = tensors
    ours = TruncatedImportance(1.5)(trainer, sampler, mask)
    torch.testing.assert_close(ours, (trainer - sampler).exp().clamp(max=1.5) * mask)
    assert not torch.equal(TruncatedImportance()(trainer, sampler, mask), ours)
    assert torch.equal(Uncorrected()(None, sampler, mask), mask.double())
    assert torch.equal(TruncatedImportance()(sampler, sampler, mask), Uncorrected()(None, sampler, mask))
    assert TruncatedImportance().needs_trainer and not Uncorrected().needs_trainer


def test_what_is_needed_must_be_there(tensors, mask):
    rewards, logprobs, _ = tensors
    with pytest.raises(ConfigError, match="no reference"):
        KLInReward()(rewards, logprobs, None, mask)
    with pytest.raises(ConfigError, match="trainer's"):
        TruncatedImportance()(None, logprobs, mask)


def test_a_fixed_budget():
    assert [Fixed(4).updates(auroc) for auroc in (None, 0.5, 1.0)] == [4, 4, 4]
    assert Fixed().expected == 3 and not Fixed().needs_auroc


def test_a_band_never_adds_updates_as_the_auroc_rises():
    band = AurocBand(0.6, 0.9, 0, 8)
    budgets = [band.updates(n / 100) for n in range(101)]
    assert budgets == sorted(budgets, reverse=True)
    assert set(budgets) == set(range(9)) and band.needs_auroc and band.expected == 4
    assert budgets[60] == band.updates(None) == 8 and budgets[90] == 0


def test_a_narrow_band_is_a_switch():
    band = AurocBand(0.75, 0.75 + 1e-9, 1, 5)
    assert [band.updates(auroc) for auroc in (0.7, 0.8)] == [5, 1]


@pytest.mark.parametrize(
    ("component", "fields", "match"),
    [
        (Fixed, {"k": 0}, "k is out of range"),
        (AurocBand, {"low": 0.9, "high": 0.9}, "band"),
        (AurocBand, {"low": 0.4}, "band"),
        (AurocBand, {"high": 1.1}, "band"),
        (AurocBand, {"minimum": 6}, "band"),
        (AurocBand, {"minimum": -1}, "band"),
        (KLInReward, {"coef": 0.0}, "coef"),
        (TruncatedImportance, {"cap": 0.9}, "cap"),
    ],
)
def test_ranges(component, fields, match):
    with pytest.raises(ConfigError, match=match):
        component(**fields)
