"""The whole plan, from the configuration of fit to the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planned import LLAMA3_1_8B

import rairl_lightning.models.loading
from rairl_lightning.cli import main
from rairl_lightning.cli_plan import launch
from rairl_lightning.errors import ConfigError
from rairl_lightning.rollouts import vllm

CONFIGS = Path(__file__).parents[2] / "configs"
Plan = Callable[..., dict[str, Any]]


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


def test_what_an_engine_takes_by_itself_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "installed", lambda: True)
    with pytest.raises(ConfigError, match="VLLMSampler takes memory by itself"):
        launch([f"--config={CONFIGS / 'gsm8k.yaml'}", f"--config={CONFIGS / 'sampler' / 'vllm.yaml'}"])
