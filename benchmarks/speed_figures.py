"""From what processes measured to the figures that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speed_floors import Shape, training_floor
from speed_machine import spread
from speed_work import Result

Runs = Mapping[str, Mapping[str, Sequence[Result]]]  # by part and side, a result a repetition
LEARNING = {"grpo": "policy", "rairl": "policy", "sft": "sft"}  # the phase in which the policy learns, by algorithm


def decoding_rate(one: Result) -> float:
    """Tokens a second of sampling without the first token, whose time is the prompt's."""
    rows = [len(lengths) for lengths in one.lengths]
    after_first = [tokens - count for tokens, count in zip(one.generated, rows, strict=True)]
    spent = [whole - first for whole, first in zip(one.seconds, one.phases["prefill"], strict=True)]
    return sum(after_first) / sum(spent)


def of_decoding_floors(sampling: Sequence[Result], tokens_per_second: float) -> list[float]:
    """Shares of the rate at which the bare matrix products of a decoding step run, :func:`limits.decoding_step`."""
    return [decoding_rate(one) / tokens_per_second for one in sampling]


def of_training_floor(one: Result, phase: str, shape: Shape, limits: Mapping[str, Any]) -> float:
    """Share of the rate that :func:`speed_floors.training_floor` allows on the same tokens."""
    tokens, completion = sum(one.trained), sum(one.trained_completion)
    floor = training_floor(shape, tokens, completion, limits["gemm_flops_per_second"])
    return one.rate(phase, one.trained) / floor


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """``[median, lowest, highest]`` of ours over theirs, repetition by repetition.

    >>> ratios([6.0, 8.0, 9.0], [2.0, 2.0, 2.0])
    [4.0, 3.0, 4.5]
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def compared(runs: Runs, shape: Shape, limits: Mapping[str, Any]) -> dict[str, list[float] | None]:
    """The ratios of a comparison: above 1 ours is faster, memory below 1 is leaner.

    The floor of training is compared with SFT, where every token goes through the model once; in GRPO a prompt does so
    once for its group, so ``grpo_of_floor``, which counts it in every trace, may exceed 1.

    GRPO and sampling are compared by completion tokens a second, so that with natural ends a side is not rewarded for
    having drawn shorter ones; SFT by tokens a second.

    Args:
        runs: parts ``grpo_forced``, ``grpo_natural``, ``sft``, ``sampling`` of both sides, ``rairl`` of ours, and
            maybe ``grpo_lean``.
        shape: of the model.
        limits: of this machine at the number of threads used.
    """

    def over(part: str, quantity: str) -> list[float] | None:
        sides = [[getattr(one, quantity) for one in runs[part][side]] for side in ("ours", "peer")]
        return ratios(*sides)

    ours = {part: sides["ours"] for part, sides in runs.items()}
    rounds = [[sum(one.seconds) for one in ours[part]] for part in ("rairl", "grpo_forced")]
    found = {
        "grpo_forced": over("grpo_forced", "generated_per_second"),
        "grpo_natural": over("grpo_natural", "generated_per_second"),
        "sft": over("sft", "trained_per_second"),
        "memory": over("grpo_forced", "memory_mb"),
        "sampling_of_floor": spread(of_decoding_floors(ours["sampling"], limits["decoding_tokens_per_second"])),
        "training_of_floor": spread([of_training_floor(one, LEARNING["sft"], shape, limits) for one in ours["sft"]]),
        "rairl_over_grpo": ratios(*rounds),
        "sampling": over("sampling", "generated_per_second"),
        "grpo_of_floor": spread(
            [of_training_floor(one, LEARNING["grpo"], shape, limits) for one in ours["grpo_forced"]]
        ),
        "memory_sft": over("sft", "memory_mb"),
    }
    return found | ({"memory_lean": over("grpo_lean", "memory_mb")} if "grpo_lean" in runs else {})


def linear_fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least squares of ``y = intercept + slope · x``, weighing relative errors alike, and how far the line misses.

    Each residual is divided by ``y``, or the largest point would be all that counts.

    Returns:
        ``slope``, ``intercept``, and ``worst``: the largest ``|residual| / y``.

    >>> linear_fit([1.0, 2.0, 4.0], [3.0, 5.0, 9.0])
    {'slope': 2.0, 'intercept': 1.0, 'worst': 0.0}
    """
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    x_mean = sum(w * a for w, a in zip(weights, x, strict=True)) / total
    y_mean = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    covariance = sum(w * (a - x_mean) * (b - y_mean) for w, a, b in zip(weights, x, y, strict=True))
    slope = covariance / sum(w * (a - x_mean) ** 2 for w, a in zip(weights, x, strict=True))
    intercept = y_mean - slope * x_mean
    worst = max(abs(intercept + slope * a - b) / b for a, b in zip(x, y, strict=True))
    return {name: round(v, 9) for name, v in (("slope", slope), ("intercept", intercept), ("worst", worst))}
