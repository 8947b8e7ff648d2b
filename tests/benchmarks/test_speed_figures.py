"""From measured seconds and tokens to ratios, on numbers worked by hand."""

from __future__ import annotations

import doctest
from dataclasses import replace
from types import ModuleType

import pytest
import speed_figures
import speed_machine
import speed_questions
from speed_figures import compared, decoding_rate, linear_fit, of_training_floor, ratios
from speed_floors import Shape
from speed_machine import middle, spread
from speed_work import Result

SMALL = Shape(4, 6, 2, 2, 1, 2, 10)  # 5,280 operations for 5 tokens of which 3 are a completion's: test_speed_floors
LIMITS = {"gemm_flops_per_second": 52800.0, "decoding_tokens_per_second": 40.0}


def result(seconds: float, generated: int = 0, trained: int = 0, completion: int = 0, mb: float = 100.0) -> Result:
    phases = {"policy": [seconds / 2], "sft": [seconds], "prefill": [0.5]}
    return Result([seconds], phases, [generated], [trained], [completion], [[generated // 2] * 2], mb, None, {})


def runs(ours: float = 1.0, peer: float = 3.0) -> dict:
    grpo = {"ours": [result(ours, 60, 5, 3, 40.0)], "peer": [result(peer, 60, 5, 3, 100.0)]}
    return {
        "grpo_forced": grpo,
        "grpo_natural": {"ours": [result(ours, 30)], "peer": [result(peer, 60)]},
        "sft": {"ours": [result(ours, trained=50, completion=30)], "peer": [result(peer, trained=50)]},
        "sampling": {"ours": [result(2.5, 62)], "peer": [result(10.0, 62)]},
        "rairl": {"ours": [result(2.5 * ours)], "peer": []},
    }


def test_ratios_by_hand() -> None:
    found = compared(runs(), SMALL, LIMITS)
    assert found["grpo_forced"] == [3.0] * 3, "the same tokens in a third of the time"
    assert found["grpo_natural"] == [1.5] * 3, "half the tokens in a third of the time"
    assert found["sft"] == [pytest.approx(3.0)] * 3 and found["sampling"] == [4.0] * 3
    assert found["memory"] == [0.4] * 3 and found["rairl_over_grpo"] == [2.5] * 3
    assert found["sampling_of_floor"] == [30 / 40] * 3, "60 tokens after the first two rows' in 2.5 - 0.5 seconds"
    assert found["grpo_of_floor"] == [pytest.approx((5 / 0.5) / (5 / 0.1))] * 3
    assert found["training_of_floor"] is not None and "memory_lean" not in found


def test_a_side_against_itself_is_one() -> None:
    """The negative control: nothing in the arithmetic favours a side."""
    found = compared(runs(2.0, 2.0) | {"grpo_natural": runs(2.0, 2.0)["grpo_forced"]}, SMALL, LIMITS)
    assert all(found[name] == [1.0] * 3 for name in ("grpo_forced", "grpo_natural", "sft"))
    swapped = {name: {"ours": sides["peer"], "peer": sides["ours"]} for name, sides in runs().items()}
    swapped["rairl"] = runs()["rairl"]
    assert compared(swapped, SMALL, LIMITS)["grpo_forced"] == [pytest.approx(1 / 3)] * 3


def test_memory_is_the_accelerator_s_where_there_is_one() -> None:
    on_device = runs()
    on_device["grpo_forced"] = {
        side: [replace(one, device_mb=mb) for one in on_device["grpo_forced"][side]]
        for side, mb in (("ours", 30.0), ("peer", 40.0))
    }
    assert compared(on_device, SMALL, LIMITS)["memory"] == [0.75] * 3


def test_lean_runs_are_compared_where_there_are_any() -> None:
    assert compared(runs() | {"grpo_lean": runs()["grpo_forced"]}, SMALL, LIMITS)["memory_lean"] == [0.4] * 3


@pytest.mark.parametrize("module", [speed_figures, speed_machine, speed_questions], ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_spread_over_repetitions() -> None:
    assert ratios([2.0, 8.0, 3.0], [1.0, 2.0, 2.0]) == [2.0, 1.5, 4.0]
    assert middle([4.0, 1.0, 2.0, 3.0]) == 2.5 and spread([]) is None
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_decoding_leaves_out_the_prompt() -> None:
    assert decoding_rate(result(2.5, 62)) == 30.0
    assert decoding_rate(replace(result(2.5, 62), phases={"prefill": [1.5]})) == 60.0


def test_training_floor_counts_the_learning_phase_alone() -> None:
    slow = replace(result(1.0, trained=5, completion=3), phases={"policy": [0.1], "sample": [100.0]})
    assert of_training_floor(slow, "policy", SMALL, LIMITS) == pytest.approx(1.0), "as fast as the products alone"


def test_line_through_costs() -> None:
    straight = linear_fit([4, 8, 16, 256], [1.4, 2.4, 4.4, 64.4])
    assert straight["slope"] == pytest.approx(0.25) and straight["intercept"] == pytest.approx(0.4)
    assert straight["worst"] < 1e-6
    quadratic = linear_fit([4, 8, 16, 256], [16.0, 64.0, 256.0, 65536.0])
    assert quadratic["worst"] > 0.3, "a cost that is not linear is seen"
