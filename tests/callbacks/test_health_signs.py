"""Each sign on series made by hand: what must be caught, and ordinary noise that must not be."""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Sequence
from typing import Any

import jsonargparse
import pytest

from rairl_lightning.callbacks import health
from rairl_lightning.callbacks.health import (
    Above,
    AgreementFalls,
    AnswerRate,
    Below,
    DistinctRate,
    EntropyFalls,
    EntropyRises,
    Falls,
    FinishedRate,
    FormatRate,
    GroupRewardSpread,
    HeldoutAuroc,
    KLToReference,
    LengthFalls,
    LengthRises,
    Level,
    Rises,
    Sign,
    SkippedUpdates,
    Watch,
    default_signs,
)
from rairl_lightning.errors import ConfigError

WINDOW, NAN = 8, float("nan")
AGREEMENT = "rollouts/agreement"


def levels(sign: Sign, values: Sequence[float], **others: Sequence[float]) -> list[Level]:
    """Level after each round; a metric of ``others`` is given with ``__`` for the slash."""
    watch, out = Watch(sign, WINDOW), []
    for index, value in enumerate(values):
        watch.observe(
            {sign.metric: value} | {name.replace("__", "/"): series[index] for name, series in others.items()}
        )
        out.append(watch.level)
    return out


def noisy(mean: float, deviation: float, count: int = 300, seed: int = 0, least: float = 0.0) -> list[float]:
    rng = random.Random(seed)
    return [max(least, rng.gauss(mean, deviation)) for _ in range(count)]


def rates(probability: float, traces: int = 128, count: int = 300, seed: int = 0) -> list[float]:
    """Shares of ``traces`` independent ones."""
    rng = random.Random(seed)
    return [sum(rng.random() < probability for _ in range(traces)) / traces for _ in range(count)]


def declining(start: float, end: float, count: int = 300) -> list[float]:
    return [start + (end - start) * index / (count - 1) for index in range(count)]


# sign, healthy series, collapsed value
CASES: list[tuple[Sign, list[float], float]] = [
    (GroupRewardSpread(), noisy(0.8, 0.2, least=0.1), 0.01),
    (FormatRate(), rates(0.93), 0.3),
    (AnswerRate(), rates(0.6), 0.1),
    (AgreementFalls(), rates(0.4, 64), 0.05),
    (DistinctRate(), rates(0.85), 0.125),
    (FinishedRate(), rates(0.9), 0.2),
    (LengthFalls(), noisy(150, 25), 12),
    (LengthRises(), noisy(150, 25), 600),
    (KLToReference(), noisy(0.1, 0.08), 3),
    (EntropyFalls(), noisy(0.5, 0.1, least=0.2), 0.01),
    (EntropyRises(), noisy(0.5, 0.1), 4),
    (HeldoutAuroc(), noisy(0.75, 0.05), 0.3),
    (SkippedUpdates(), [0.0] * 300, 2),
]


@pytest.mark.parametrize(("sign", "healthy", "collapsed"), CASES, ids=lambda one: type(one).__name__)
def test_a_collapse_is_caught_after_the_patience_and_noise_is_not(
    sign: Sign, healthy: list[float], collapsed: float
) -> None:
    assert set(levels(sign, healthy)) == {Level.HEALTHY}, "noise"
    fallen = [collapsed * (1 + 1e-3 * index) for index in range(sign.patience)]  # a held figure must change
    after = levels(sign, healthy + fallen)[len(healthy) :]
    assert after == [Level.HEALTHY] * (sign.patience - 1) + [Level.COLLAPSE]
    assert Level.COLLAPSE not in levels(sign, healthy + fallen[:-1] + healthy), "one reading fewer is no collapse"


@pytest.mark.parametrize(("sign", "healthy", "collapsed"), CASES, ids=lambda one: type(one).__name__)
def test_it_warns_before_it_collapses(sign: Sign, healthy: list[float], collapsed: float) -> None:
    """Slowly from the last healthy value to the collapsed one: seen early, although it never jumps."""
    start = sum(healthy) / len(healthy)
    seen = levels(sign, [start] * WINDOW + declining(start, collapsed))
    assert Level.COLLAPSE in seen, "a slow linear decline is caught"
    first = seen.index(Level.COLLAPSE)
    if sign.warning == sign.collapse:
        return
    assert seen[first - 1] is Level.WARNING and Level.WARNING in seen[: first - 5]
    assert seen == sorted(seen), "and stays what it is"


def test_every_default_sign_has_a_case() -> None:
    assert [type(case[0]) for case in CASES] == [type(sign) for sign in default_signs()]


def test_a_moving_average_alone_would_miss_the_slow_decline() -> None:
    """Negative control: compared with the mean of the last window, the same decline never looks bad."""
    series = declining(0.95, 0.05)
    assert Level.COLLAPSE in levels(FormatRate(), series)
    ratios = [value / (sum(series[i - WINDOW : i]) / WINDOW) for i, value in enumerate(series) if i >= WINDOW]
    assert sum(ratio <= FormatRate().collapse for ratio in ratios) == 0


def test_bad_readings_do_not_become_the_baseline() -> None:
    watch = Watch(LengthRises(), WINDOW)
    for value in [100.0] * 4 + [200.0] * 50:  # the first window is not full yet
        watch.observe({"rollouts/length": value})
    assert watch.history.first == 100 and watch.level is Level.WARNING


def test_a_collapse_in_the_first_rounds_has_something_to_be_compared_with() -> None:
    assert levels(FormatRate(), [0.9, 0.1, 0.0, 0.0])[-1] is Level.COLLAPSE


@pytest.mark.parametrize("sign", [GroupRewardSpread(), DistinctRate(), EntropyFalls()])
def test_convergence_is_excused_and_collapse_is_not(sign: Falls) -> None:
    falling = [1.0] * WINDOW + declining(1.0, 0.01)
    better, worse = declining(0.5, 0.95, len(falling)), declining(0.5, 0.1, len(falling))
    assert set(levels(sign, falling, rollouts__agreement=better)) == {Level.HEALTHY}
    assert levels(sign, falling, rollouts__agreement=worse)[-1] is Level.COLLAPSE
    assert levels(dataclasses.replace(sign, excused_by=None), falling, rollouts__agreement=better)[-1] is Level.COLLAPSE


def test_an_excuse_counts_for_finite_readings_only() -> None:
    assert levels(DistinctRate(patience=1), [1.0, NAN], rollouts__agreement=[0.5, 0.9])[-1] is Level.COLLAPSE


@pytest.mark.parametrize("sign", default_signs(), ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_what_is_not_finite_is_a_collapse(sign: Sign, value: float) -> None:
    sign = dataclasses.replace(sign, patience=1)
    assert levels(sign, [1.0, value])[-1] is Level.COLLAPSE


def test_a_low_baseline_is_no_baseline() -> None:
    assert set(levels(AgreementFalls(), [0.15] * 10 + [0.0] * 10)) == {Level.HEALTHY}
    assert levels(AgreementFalls(floor=0.1), [0.15] * 10 + [0.0] * 10)[-1] is Level.COLLAPSE
    assert set(levels(FormatRate(), [0.0] * 20)) == {Level.HEALTHY}, "it never had the form"


def test_a_held_figure_counts_once_until_it_is_measured_again() -> None:
    assert set(levels(HeldoutAuroc(), [0.8] + [0.2] * 20)) == {Level.HEALTHY}
    assert levels(HeldoutAuroc(), [0.8, 0.2, 0.2, 0.21])[-1] is Level.COLLAPSE
    assert levels(Below("discriminator/heldout_auroc", 0.55, 0.35), [0.8] + [0.2] * 3)[-1] is Level.COLLAPSE


@pytest.mark.parametrize(("sign", "again"), [(HeldoutAuroc(patience=1), False), (FormatRate(patience=1), True)])
def test_going_back_does_not_make_a_held_figure_new(sign: Sign, again: bool) -> None:
    watch = Watch(sign, WINDOW)
    watch.observe({sign.metric: 0.9})
    before = watch.state_dict()
    watch.observe({sign.metric: 0.1})
    assert watch.level is Level.COLLAPSE
    watch.go_back(before)
    assert watch.level is Level.HEALTHY and watch.history.state_dict() == before["history"]
    assert watch.observe({sign.metric: 0.1}) is again
    assert watch.observe({sign.metric: 0.11}) and watch.level is Level.COLLAPSE


@pytest.mark.parametrize(("sign", "now"), [(FormatRate(), True), (HeldoutAuroc(), False)])
def test_the_last_round_needs_no_confirmation_of_what_is_read_each_round(sign: Sign, now: bool) -> None:
    watch = Watch(sign, WINDOW)
    for value in (0.9, 0.1):
        watch.observe({sign.metric: value})
    assert watch.collapsed(last=True) is now and not watch.collapsed(last=False)


def test_an_absent_metric_rests() -> None:
    watch = Watch(KLToReference(), WINDOW)
    assert not watch.observe({"rollouts/length": 3.0}) and watch.level is Level.HEALTHY


def test_a_warning_says_sign_value_and_baseline() -> None:
    watch = Watch(FormatRate(), 2)
    for value in (0.9, 0.9, 0.6, 0.6, 0.6):
        watch.observe({"rollouts/format_rate": value})
    assert watch.just_warned
    text = watch.describe()
    assert all(part in text for part in ("FormatRate", "rollouts/format_rate is 0.6", "above 0.72", "window, 0.9", "3"))
    watch.observe({"rollouts/format_rate": 0.6})
    assert not watch.just_warned, "once an episode"


def test_a_watch_remembers_everything() -> None:
    series = rates(0.9, count=20) + [0.1] * 2
    for cut in (3, 12, 21):
        one, other = (Watch(GroupRewardSpread(patience=3, excused_by=AGREEMENT), WINDOW) for _ in range(2))
        given = [{"reward/group_std": value, AGREEMENT: value} for value in series]
        for metrics in given[:cut]:
            one.observe(metrics)
        other.load_state_dict(one.state_dict())
        for metrics in given[cut:]:
            one.observe(metrics)
            other.observe(metrics)
        assert one.state_dict() == other.state_dict()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FormatRate(warning=0.4),
        lambda: FormatRate(patience=0),
        lambda: Falls(""),
        lambda: Falls("x", warning=1.0),
        lambda: Falls("x", floor=-1.0),
        lambda: Rises("x", warning=0.9),
        lambda: Rises("x", warning=5.0),
        lambda: Above("x", 2, 1),
        lambda: Below("x", 1, 2),
    ],
)
def test_impossible_levels_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be read so"):
        wrong()


SIGNS = [one for name in health.__all__ if inspect.isclass(one := getattr(health, name)) and issubclass(one, Sign)]


@pytest.mark.parametrize("sign", [one for one in SIGNS if one is not Sign])
def test_every_sign_can_be_named_in_yaml(sign: type[Sign]) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--sign", type=Sign)
    required = {
        field.name: {"metric": "x", "warning": 1.0, "collapse": 1.0}[field.name]
        for field in dataclasses.fields(sign)
        if field.default is dataclasses.MISSING
    }
    node = {"class_path": f"rairl_lightning.callbacks.health.{sign.__name__}", "init_args": {**required, "patience": 2}}
    assert parser.instantiate_classes(parser.parse_object({"sign": node})).sign == sign(**required, patience=2)
    assert sign.__dataclass_params__.frozen and sign.__doc__


@pytest.mark.parametrize("kind", [Falls, Rises, Above, Below])
def test_the_fields_of_a_kind_say_what_they_mean(kind: type[Sign]) -> None:
    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        assert source.partition(f"    {field.name}: ")[2].splitlines()[1].strip().startswith('"""')
