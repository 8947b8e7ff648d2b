"""The defaults are the authors' constants (DESIGN §3), whatever a YAML says; and schedules and budgets by equation."""

import math

import pytest

from rairl_lightning.components import (
    ApproximateR1,
    AurocBand,
    BinaryCrossEntropy,
    ClippedLogit,
    ClippedSurrogate,
    Constant,
    CosineWithWarmup,
    EstimateK1,
    EstimateK3,
    Fixed,
    GroupNormalised,
    Hinge,
    Interval,
    KLInReward,
    MeanLogprob,
    NoLogprob,
    Pairwise,
    PerTrace,
    ReadG,
    RewardToGo,
    SequenceSurrogate,
    SingleHead,
    TraceMean,
    TruncatedImportance,
    TruncatedSurrogate,
    TwoHead,
    UnitGradient,
)
from rairl_lightning.errors import ConfigError


@pytest.mark.parametrize(
    ("component", "constants"),
    [
        (Interval, {"every": 15}),
        (BinaryCrossEntropy, {"label_smoothing": 0.1, "expert_share": 0.5, "reduction": PerTrace()}),
        (
            TwoHead,
            {
                "logprob": MeanLogprob(floor=None),
                "read_out": ReadG(),
                "potential_lr_factor": 0.5,
                "potential_weight_decay": 1e-4,
                "gamma": 1.0,
                "shaping_clip": None,
            },
        ),
        (SingleHead, {"logprob": NoLogprob()}),
        (ClippedLogit, {"temperature": 1.0, "clip": 5.0}),
        (GroupNormalised, {"eps": 1e-4}),
        (RewardToGo, {"discount": 0.9}),
        (
            ClippedSurrogate,
            {
                "epsilon": 0.2,
                "epsilon_high": None,
                "kl_coef": 0.01,
                "kl": EstimateK3(),
                "normalisation": TraceMean(),
                "dual_clip": None,
            },
        ),
        (SequenceSurrogate, {"epsilon": 3e-4, "epsilon_high": 4e-4, "kl_coef": 0.01, "kl": EstimateK3()}),
        (TruncatedSurrogate, {"epsilon": 1.0, "epsilon_high": 4.0, "kl_coef": 0.01, "kl": EstimateK3()}),
        (KLInReward, {"coef": 0.01, "estimate": EstimateK1()}),
        (TruncatedImportance, {"cap": 2.0}),
        (UnitGradient, {"coef": 10.0}),
        (ApproximateR1, {"step": 0.1}),
        (Hinge, {"margin": 1.0, "expert_share": 0.5}),
        (Pairwise, {"label_smoothing": 0.0}),
        (Fixed, {"k": 3}),
        (CosineWithWarmup, {"warmup": 0.1, "floor": 0.0}),
    ],
)
def test_defaults(component, constants):
    default = component()
    assert {name: getattr(default, name) for name in constants} == constants


def cosine(update, total, warmup, floor):
    """Linear from nothing to 1 over the first share of the updates, then half a cosine from 1 to the floor."""
    warm = math.ceil(warmup * total)
    if update < warm:
        return (update + 1) / warm
    angle = math.pi * (update - warm) / (total - warm)
    return floor + (1 - floor) * math.cos(min(angle, math.pi) / 2) ** 2


@pytest.mark.parametrize("floor", [0.0, 0.2])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
def test_the_cosine_agrees_with_its_equation(warmup, floor):
    schedule = CosineWithWarmup(warmup, floor)
    for total in (8, 40):
        found = [schedule.factor(update, total) for update in range(total + 3)]
        assert found == pytest.approx([cosine(update, total, warmup, floor) for update in range(total + 3)], abs=1e-12)
        off = [cosine(update, total, warmup, floor + 1e-3) for update in range(total + 3)]
        assert found != pytest.approx(off, abs=1e-12)  # control
        assert all(0 <= factor <= 1 for factor in found)
    assert schedule.factor(1, 0) == floor, "past the end of nothing"


def test_a_share_of_the_updates_is_rounded_as_written():
    """0.1 · 70 is 7.000000000000001 in floats: seven updates, not eight; a fraction of an update counts as one."""
    for share, total, warm in ((0.1, 70, 7), (0.1, 71, 8), (0.07, 100, 7)):
        factors = [CosineWithWarmup(share).factor(update, total) for update in range(total)]
        assert factors.index(1.0) == warm - 1 and factors[warm - 1 : warm + 1] == [1.0, 1.0], (share, total)


def test_the_constant_agrees_with_its_equation():
    for warm in (0, 1, 4):
        found = [Constant(warm).factor(update, 10) for update in range(7)]
        assert found == [min(1.0, (update + 1) / warm) if warm else 1.0 for update in range(7)]
    assert Constant(4).factor(1, 10) != Constant(5).factor(1, 10)  # control


def test_a_warm_up_of_fewer_than_no_updates_is_refused():
    """``warmup_updates: -3`` climbs the loss: the factor at update 5 is -2, and its docstring says >= 0."""
    with pytest.raises(ConfigError, match="warmup_updates"):
        Constant(warmup_updates=-3)


def test_the_band_agrees_with_its_line():
    """A straight line from (low, most) to (high, fewest), level outside, rounded to whole updates."""
    low, high, fewest, most = 0.6, 0.9, 1, 8
    band = AurocBand(low, high, fewest, most)
    aurocs = [n / 200 for n in range(201)]
    inside = [min(max(auroc, low), high) for auroc in aurocs]
    line = [((high - x) * most + (x - low) * fewest) / (high - low) for x in inside]
    assert all(abs(band.updates(a) - y) <= 0.5 + 1e-9 for a, y in zip(aurocs, line, strict=True))
    assert any(abs(band.updates(a) - y - 0.1) > 0.5 + 1e-9 for a, y in zip(aurocs, line, strict=True))  # control
    assert (band.most, band.expected) == (8, 5) and band.updates(None) == 8
    assert (Fixed(5).most, Fixed(5).expected, Fixed(5).updates(0.7)) == (5, 5, 5)
    assert AurocBand(low, high, 0, 8).expected == 4 != AurocBand(low, high, 2, 8).expected  # control
