"""The whole plan, from the configuration of fit to the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2Config

import rairl_lightning.models.loading
from rairl_lightning.cli import main
from rairl_lightning.cli_plan import launch
from rairl_lightning.errors import ConfigError
from rairl_lightning.models import BackboneSpec, FullFineTuning, LoRASpec, SharedBase, TwoBackbones
from rairl_lightning.models.decoding import DynamicInt8, Halved, HeldWeights, InPlace, Packed
from rairl_lightning.planning import Setup, chosen_device, memory_plan, savings, time_plan
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.memory import COPY
from rairl_lightning.planning.optimisers import OptimiserState
from rairl_lightning.rollouts import vllm

CONFIGS = Path(__file__).parents[2] / "configs"
QWEN2_5_7B = {  # of Qwen/Qwen2.5-7B-Instruct's config.json
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
LLAMA3_1_8B = {  # of meta-llama/Llama-3.1-8B-Instruct's config.json
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
SMOLLM2_135M = {  # of HuggingFaceTB/SmolLM2-135M-Instruct's config.json
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
ADAMW = OptimiserState("AdamW", 8.0, 4.0)
CARD = chosen_device(memory_gb=24, tflops=80, bandwidth_gbs=900)
Plan = Callable[..., dict[str, Any]]


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """The configuration of a 7B model, and nothing else of it."""
    Qwen2Config(**QWEN2_5_7B).save_pretrained(tmp_path / "7b")
    return tmp_path / "7b"


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Run the command; what it prints as JSON, with its exit code."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(rairl_lightning.models.loading.AutoModelForCausalLM, "from_pretrained", refuse)

    def run(*args: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as end:
            launch([*args, "--json"])
        return {**json.loads(capsys.readouterr().out), "code": end.value.code}

    return run


def setup(pair: Any, **changed: Any) -> Setup:
    """Two players, eight samples of each of 4 prompts, 300 + 824 tokens."""
    numbers: dict[str, Any] = {
        "algorithm": "RAIRL", "pair": pair, "learns_reward": True, "autocast": True,
        "optimisers": {"policy": ADAMW, "discriminator": ADAMW},
        "prompts": 4, "group_size": 8, "prompt_tokens": 300, "sampled_tokens": 824, "demonstration_tokens": 824,
        "max_rows": 32, "shares_prompts": False, "keeps_cache": False, "weights": Packed(), "cuts_tail": False,
        "microbatch": 4096,
        "negatives": 8, "drawn": None,
        "discriminator_updates": 3, "policy_updates": 1, "policy_passes": 1, "experts_join": False,
        "asks_reference": True, "penalises_gradient": False, "rounds": 10, "warmup_updates": 30, "sft_epochs": 0,
        "evaluation": (8, 1), "replay_rounds": 100,
    }  # fmt: skip
    return Setup(**{**numbers, **changed})


def quantised(folder: Path, r: int = 16, checkpointing: bool = True) -> SharedBase:
    backbone, lora = BackboneSpec(str(folder), quantisation="nf4", dtype="bfloat16"), LoRASpec(r, 2 * r)
    return SharedBase(backbone, lora, lora, activation_checkpointing=checkpointing)


# --- The command --------------------------------------------------------------------------------------------------


def test_7b_in_nf4_over_one_base_fits_24_gb(plan: Plan, seven: Path) -> None:
    common = [
        f"--config={CONFIGS / 'gsm8k.yaml'}",
        f"--model.pair.backbone.path={seven}",
        "--model.group_size=8",
        "--model.pair.policy_lora.r=16",
        "--model.pair.discriminator_lora.r=16",
        "--memory_gb=24",
        "--tflops=80",
        "--bandwidth_gbs=900",
    ]
    fits = plan(*common)
    assert fits["code"] == 0 and fits["fits"] and fits["savings"] == []
    assert fits["held"]["base, NF4"] == pytest.approx(6.525e9 * 4.127 / 8, rel=1e-3)
    assert 8e9 < fits["peak"] < 24e9
    assert fits["seconds_estimate"]["round"] > 0
    without = plan(*common, "--model.pair.activation_checkpointing=false")
    assert without["code"] == 3 and not without["fits"], "the negative control"
    best = without["savings"][0]
    assert best["knob"].endswith("activation_checkpointing: true") and best["fits"]
    assert without["peak"] - best["bytes"] == fits["peak"], "what is promised is what comes"


LARGEST = {  # of those a card is meant for, by their config.json
    "12gb": ("qwen3", 12, {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
    }),
    "24gb": ("llama", 24, LLAMA3_1_8B),
    "80gb": ("llama", 80, LLAMA3_1_8B),
}  # fmt: skip


@pytest.mark.parametrize(
    "card", [pytest.param("12gb"), *(pytest.param(one, marks=pytest.mark.slow) for one in ("24gb", "80gb"))]
)
def test_what_a_card_is_meant_for_fits_with_room_to_spare(plan: Plan, configured: Any, card: str) -> None:
    family, memory, sizes = LARGEST[card]
    common = [f"--config={CONFIGS / 'gsm8k.yaml'}", f"--model.pair.backbone.path={configured(family, **sizes)}"]
    device = [f"--memory_gb={memory}", "--tflops=80", "--bandwidth_gbs=900"]
    fits = plan(*common, f"--config={CONFIGS / 'hardware' / card}.yaml", *device)
    assert fits["code"] == 0 and fits["peak"] < 0.8 * memory * 1e9
    said = re.search(r"at most ([\d.]+) GB", (CONFIGS / "hardware" / f"{card}.yaml").read_text())
    assert said is not None and fits["peak"] / 1e9 == pytest.approx(float(said[1]), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("card", ["12gb", "24gb"])
def test_without_its_overlay_it_would_not_fit(plan: Plan, configured: Any, card: str) -> None:
    family, memory, sizes = LARGEST[card]
    common = [f"--config={CONFIGS / 'gsm8k.yaml'}", f"--model.pair.backbone.path={configured(family, **sizes)}"]
    assert plan(*common, f"--memory_gb={memory}", "--tflops=80", "--bandwidth_gbs=900")["code"] == 3


@pytest.mark.parametrize(
    ("config", "phases"),
    [
        ("quickstart", {"SFT", "sample", "discriminator update", "score", "policy update", "evaluation"}),
        ("gsm8k_sft", {"SFT", "evaluation"}),
        ("gsm8k_grpo", {"sample", "policy update", "evaluation"}),
    ],
)
def test_every_algorithm_is_planned(plan: Plan, config: str, phases: set[str]) -> None:
    found = plan(
        f"--config={CONFIGS / config}.yaml",
        "--model.pair.backbone.path=builtin:dials",
        "--memory_gb=40",
        "--tflops=1",
        "--bandwidth_gbs=20",
    )
    assert phases <= set(found["phases"]) and found["code"] == 0
    assert any(name.startswith("discriminator") for name in found["held"]) == (config == "quickstart")


def test_it_refuses_what_fit_refuses(seven: Path) -> None:
    for wrong in ("--model.group_sise=3", "--trainer.precision=16-mixed", "--model.sampler.max_new_tokens=0"):
        with pytest.raises(ConfigError):
            launch([f"--config={CONFIGS / 'quickstart.yaml'}", wrong])


def test_a_gpu_that_is_not_here_is_planned_for(plan: Plan) -> None:
    found = plan(f"--config={CONFIGS / 'quickstart.yaml'}", "--trainer.accelerator=gpu", "--device=a100-80gb")
    assert found["fits"] and found["device"]["name"] == "a100-80gb"


def test_tables_say_what_to_turn(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", f"--config={CONFIGS / 'quickstart.yaml'}", "--device=rtx4090-24gb", "--memory_gb=1.5"])
    out = " ".join(capsys.readouterr().out.split())
    assert code == 3 and "It does not fit" in out and "max_rows" in out and "estimate" in out


# --- The arithmetic -----------------------------------------------------------------------------------------------


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
    folder, lora, cpu = configured(**SMOLLM2_135M), LoRASpec(16, 32), replace(CARD, name="cpu")

    def copies(weights: HeldWeights, device: Device = cpu, autocast: bool = False, **spec: Any) -> tuple[int, int]:
        """While sampling, and in the update."""
        pair = SharedBase(BackboneSpec(str(folder), **{"dtype": "float32", **spec}), lora, lora)
        plan = memory_plan(setup(pair, weights=weights, autocast=autocast), device)
        sampled, updated = plan.phases["sample"], plan.phases["policy update"]
        return sampled.get(COPY, 0), updated.get(COPY, 0)

    matrices = 134_515_008 - 61 * 576  # all parameters but the norms
    assert copies(Packed()) == (4 * matrices, 0)
    assert copies(DynamicInt8()) == (matrices, 0)
    kept, again = copies(Halved())
    assert kept == again == pytest.approx(437e6, rel=1e-3), "as its process has grown when measured"
    assert copies(Halved(kept=False)) == (kept, 0)
    output = 49152 * 576
    assert copies(Halved(), quantisation="nf4") == (4 * (matrices - output) + 2 * 49152 * 1024, 2 * 49152 * 1024)
    lora = LoRASpec(256, 512)  # of this rank adapters are more to read than what halving saves
    assert copies(Halved()) == (4 * (matrices - output) + 2 * 49152 * 1024, 2 * 49152 * 1024)
    assert copies(InPlace()) == copies(Packed(max_gib=0.4)) == copies(Packed(), CARD) == (0, 0)
    assert copies(Packed(), autocast=True) == copies(Packed(), dtype="bfloat16") == (0, 0)


def test_what_an_engine_takes_by_itself_is_not_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm, "installed", lambda: True)
    with pytest.raises(ConfigError, match="VLLMSampler takes memory by itself"):
        launch([f"--config={CONFIGS / 'gsm8k.yaml'}", f"--config={CONFIGS / 'sampler' / 'vllm.yaml'}"])


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
