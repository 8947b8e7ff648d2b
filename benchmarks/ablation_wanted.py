"""The figures that were wanted before anything was run, and whether the data has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ablation_groups import Figure, Group

HEALTH_OFF = "without health"  # in the name of an algorithm: a run that is meant to collapse


@dataclass(frozen=True)
class Verdict:
    """Whether a wanted figure was reached.

    Args:
        status: met, missed, or not run where there is no data.
        why: the figures that it rests on.
    """

    status: str
    why: str = ""


Judge = Callable[[Sequence[Group]], Verdict]
NOT_RUN = Verdict("not run")


def family(groups: Sequence[Group], algorithm: str) -> list[Group]:
    """The groups of an algorithm and its variants, which are named ``<algorithm> <variant>``, with health on."""
    return [
        group
        for group in groups
        if f"{group.algorithm} ".startswith(f"{algorithm} ") and HEALTH_OFF not in group.algorithm
    ]


def best(groups: Sequence[Group], metric: str) -> Group | None:
    """The group with the greatest mean, None if none has the metric. The choice is made on the figures reported."""
    able = [group for group in groups if metric in group.figures and not math.isnan(group.figures[metric].mean)]
    return max(able, key=lambda group: group.figures[metric].mean, default=None)


def above_sft(groups: Sequence[Group], *, metric: str) -> Verdict:
    """The best R-AIRL against the best SFT: the intervals must not overlap."""
    ours, theirs = best(family(groups, "R-AIRL"), metric), best(family(groups, "SFT"), metric)
    if ours is None or theirs is None:
        return NOT_RUN
    met = ours.figures[metric].low > theirs.figures[metric].high
    return _verdict(met, f"{_show(ours, metric)} against {_show(theirs, metric)}")


def half_of_grpo(groups: Sequence[Group], *, metric: str) -> Verdict:
    """The best R-AIRL's gain is positive and at least half of the best GRPO's."""
    ours, theirs = best(family(groups, "R-AIRL"), metric), best(family(groups, "GRPO"), metric)
    if ours is None or theirs is None:
        return NOT_RUN
    gain = ours.figures[metric].mean
    met = gain > 0 and gain >= 0.5 * theirs.figures[metric].mean
    return _verdict(met, f"{_show(ours, metric)} against {_show(theirs, metric)}")


def none_collapsed(groups: Sequence[Group]) -> Verdict:
    """No policy run with health on was stopped by a collapse; one that ended in an error counts as if it had been.

    A run that was restored and went on is not lost; how often that happened is said.
    """
    runs = [group for group in groups if group.stage == "policy" and HEALTH_OFF not in group.algorithm]
    watched = [group for group in runs if "collapsed" in group.figures or group.failed]
    if not watched:
        return NOT_RUN
    counted = sum(group.figures["collapsed"].seeds for group in watched if "collapsed" in group.figures)
    lost, restorations = _total(watched, "collapsed"), _total(watched, "restorations")
    failed = sum(group.failed for group in watched)
    why = f"{lost} of {counted} runs lost, {failed} failed; {restorations} restorations"
    return _verdict(lost + failed == 0, why)


def choice_above_baselines(groups: Sequence[Group], *, metric: str) -> Verdict:
    """Best-of-16 by the reward of the best discriminator is above majority vote and policy log-probability there."""
    baselines = ("best_of_16/majority", "best_of_16/logprob")
    able = [group for group in groups if all(name in group.figures for name in baselines)]
    ours = best(able, metric)
    if ours is None:
        return NOT_RUN
    met = all(ours.figures[metric].mean > ours.figures[name].mean for name in baselines)
    majority, logprob = (_figure(ours.figures[name]) for name in baselines)
    return _verdict(met, f"{_show(ours, metric)} against majority {majority}, log-probability {logprob}")


def localises(groups: Sequence[Group], *, metric: str, above: float) -> Verdict:
    """The best discriminator's Hit@1 passes a threshold."""
    ours = best(groups, metric)
    if ours is None:
        return NOT_RUN
    return _verdict(ours.figures[metric].mean > above, _show(ours, metric))


WANTED: tuple[tuple[str, Judge], ...] = (
    (
        "pass@1 (sampled): R-AIRL above the best SFT, intervals apart",
        partial(above_sft, metric="pass@1/sampled"),
    ),
    (
        "pass@1 (greedy): R-AIRL above the best SFT, intervals apart",
        partial(above_sft, metric="pass@1/greedy"),
    ),
    (
        "gain (sampled): R-AIRL's at least half of GRPO's",
        partial(half_of_grpo, metric="gain/sampled"),
    ),
    ("no run lost to collapse with health on", none_collapsed),
    (
        "Best-of-16 by mean reward above majority vote and above log-probability",
        partial(choice_above_baselines, metric="best_of_16/reward"),
    ),
    (
        "Best-of-16 by least reward above majority vote and above log-probability",
        partial(choice_above_baselines, metric="best_of_16/reward_min"),
    ),
    (
        "Hit@1 (token) above 86 % on kinds of perturbation not trained on",
        partial(localises, metric="hit@1/token", above=0.86),
    ),
)


def _verdict(met: bool, why: str) -> Verdict:
    return Verdict("met" if met else "missed", why)


def _total(groups: Sequence[Group], metric: str) -> int:
    figures = [group.figures[metric] for group in groups if metric in group.figures]
    return round(sum(figure.mean * figure.seeds for figure in figures))


def _show(group: Group, metric: str) -> str:
    figure = group.figures[metric]
    seeds = f"{figure.seeds} seed" + ("s" if figure.seeds != 1 else "")
    return f"{group.name} {_figure(figure)}, {seeds},"


def _figure(figure: Figure) -> str:
    return f"{100 * figure.mean:.1f} ({100 * figure.low:.1f}–{100 * figure.high:.1f})"
