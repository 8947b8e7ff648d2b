"""What is planned against sums by hand, and what it grows with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned import ADAMW, CARD, QWEN2_5_7B, SMOLLM2_135M, quantised, setup
from transformers import Qwen2Config

from rairl_lightning.models import BackboneSpec, FullFineTuning, LoRASpec, SharedBase, TwoBackbones
from rairl_lightning.models.decoding import DynamicInt8, HeldWeights, InPlace, Native, Packed
from rairl_lightning.planning import chosen_device, memory_plan, savings, time_plan
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.memory import COPY


def test_what_is_held_is_the_sum_of_its_parts_by_hand(seven: Path) -> None:
    held = memory_plan(setup(quantised(seven)), CARD).held
    adapter = 16 * 28 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))
    assert held["policy: adapter"] == held["policy: gradients"] == 4 * adapter
    assert held["policy: AdamW"] == 8 * adapter + 4 * 2 * 7 * 28
    assert held["discriminator: adapter and head"] == 4 * (adapter + 3584 + 1)
    assert held["base: language-model head"] == 2 * 152064 * 3584


def test_keys_and_values_by_hand(seven: Path) -> None:
    token = 2 * 28 * 512 * 2
    repeated = memory_plan(setup(quantised(seven)), CARD).phases["sample"]["keys and values"]
    assert repeated == 32 * 1124 * token
    shared = memory_plan(setup(quantised(seven), shares_prompts=True), CARD).phases["sample"]["keys and values"]
    assert shared == (32 * 824 + 4 * 300) * token
    fewer = memory_plan(setup(quantised(seven), max_rows=8), CARD).phases["sample"]["keys and values"]
    assert 4 * fewer == repeated
    for keeps in (True, False):
        phases = memory_plan(setup(quantised(seven), keeps_cache=keeps), CARD).phases
        assert phases["sample"]["keys and values"] == repeated
        assert phases["policy update"].get("keys and values", 0) == repeated * keeps


def test_the_samplers_copy_of_the_weights_is_there_where_it_is_read(configured: Callable[..., Path]) -> None:
    folder, cpu = configured(**SMOLLM2_135M), replace(CARD, name="cpu")

    def copies(weights: HeldWeights, device: Device = cpu, autocast: bool = False, **spec: Any) -> tuple[int, int]:
        """While sampling, and in the update."""
        lora = LoRASpec(16, 32)
        pair = SharedBase(BackboneSpec(str(folder), **{"dtype": "float32", **spec}), lora, lora)
        plan = memory_plan(setup(pair, weights=weights, autocast=autocast), device)
        sampled, updated = plan.phases["sample"], plan.phases["policy update"]
        return sampled.get(COPY, 0), updated.get(COPY, 0)

    matrices = 134_515_008 - 61 * 576  # all parameters but the norms
    assert copies(Packed()) == (4 * matrices, 0)
    assert copies(DynamicInt8()) == (matrices, 0)
    assert copies(Native()) == copies(Native(), quantisation="nf4") == copies(Packed())
    assert copies(Packed(), quantisation="nf4") == copies(Packed())
    assert copies(InPlace()) == copies(Packed(max_gib=0.4)) == copies(Packed(), CARD) == (0, 0)
    assert copies(Packed(), autocast=True) == copies(Packed(), dtype="bfloat16") == (0, 0)


def test_two_backbones_and_whole_models_hold_more(seven: Path, tmp_path: Path) -> None:
    one, card = setup(quantised(seven)), CARD
    backbone = one.pair.backbone  # type: ignore[attr-defined]
    two = replace(one, pair=TwoBackbones(backbone, backbone, LoRASpec(16), LoRASpec(16)))
    second = sum(memory_plan(two, card).held.values()) - sum(memory_plan(one, card).held.values())
    shape = one.pair.shape().policy.backbone
    assert second == shape.linear_bytes + shape.unquantised_bytes, "a second base, without its language-model head"
    Qwen2Config(**{**QWEN2_5_7B, "num_hidden_layers": 2}).save_pretrained(tmp_path / "small")
    full = replace(one, pair=FullFineTuning(BackboneSpec(str(tmp_path / "small"))), autocast=False)
    held = memory_plan(full, card).held
    assert held["reference"] == held["policy: weights"] == held["policy: gradients"]


def test_savings_come_in_order_and_are_what_a_new_plan_says(seven: Path) -> None:
    short = setup(quantised(seven, r=256, checkpointing=False))
    found = savings(short, CARD)
    assert [one.bytes for one in found] == sorted((one.bytes for one in found), reverse=True)
    knobs = " ".join(one.knob for one in found)
    assert all(word in knobs for word in ("activation_checkpointing", "max_tokens_per_microbatch", "lora.r", "8bit"))
    turned = replace(short, pair=replace(short.pair, activation_checkpointing=True))  # type: ignore[type-var]
    saved = memory_plan(short, CARD).peak - memory_plan(turned, CARD).peak
    assert next(one.bytes for one in found if "checkpointing" in one.knob) == saved > 0
    assert not any("checkpointing" in one.knob for one in savings(turned, CARD))


def test_memory_and_time_grow_with_what_they_depend_on(seven: Path) -> None:
    small = setup(quantised(seven))
    first = time_plan(small, CARD)
    twice = time_plan(replace(small, prompts=8, max_rows=64, negatives=16), CARD)
    assert first is not None and twice is not None
    for phase in ("discriminator updates", "score", "policy update"):
        assert twice.phases[phase] == pytest.approx(2 * first.phases[phase])
    faster = time_plan(small, replace(CARD, flops=2 * 8e13))
    assert faster is not None and 2 * faster.phases["score"] == pytest.approx(first.phases["score"])
    assert time_plan(small, replace(CARD, flops=None)) is None
    assert first.run == pytest.approx(
        10 * first.round + 10 * (first.phases["sample"] + first.phases["discriminator updates"])
    )


def test_a_players_that_never_steps_holds_no_state(seven: Path) -> None:
    reward_alone = setup(quantised(seven), rounds=0, optimisers={"discriminator": ADAMW})
    plan = memory_plan(reward_alone, CARD)
    assert not {"policy: gradients", "policy: AdamW"} & set(plan.held)
    assert "policy update" not in plan.phases and "discriminator update" in plan.phases


def test_on_a_cpu_what_lies_on_the_host_counts(seven: Path) -> None:
    cpu = replace(chosen_device("cpu"), memory=24 * 10**9)
    plan = memory_plan(setup(quantised(seven)), cpu)
    assert plan.needed(cpu) - plan.peak == plan.host["replayed rollouts"] == 100 * 32 * 1124 * 7
    assert plan.needed(CARD) == plan.peak
