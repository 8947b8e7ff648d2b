"""The options that the speed benchmarks share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from speed_machine import cores
from speed_questions import questions, source
from speed_work import Work

from rairl_lightning.data.demonstrations import Arithmetic
from rairl_lightning.models import BackboneSpec

HERE = Path(__file__).resolve().parent
SMOLLM2 = HERE.parent / "models" / "SmolLM2-135M-Instruct"
TINY = "builtin:dials"
BASELINES = HERE / "baselines"  # figures by machine
SFT_BATCH = 8


def gsm8k_system_prompt() -> str:
    """The one that the policy of `configs/gsm8k.yaml` is trained with."""
    config = yaml.safe_load((HERE.parent / "configs" / "gsm8k.yaml").read_text(encoding="utf-8"))
    return config["model"]["init_args"]["pair"]["init_args"]["system_prompt"]


def parser(about: str) -> argparse.ArgumentParser:
    """What is measured, and on what."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--model", default=str(SMOLLM2), help="folder; `make smollm2` prepares the default")
    made.add_argument("--data", type=Path, help="folder of GSM8K; the built-in questions where there is none")
    made.add_argument("--device", default="cpu", help="cpu (float32), or cuda (bfloat16 mixed; not yet run)")
    made.add_argument("--quantisation", choices=["nf4"], help="of our base")
    made.add_argument("--threads", type=int, default=cores(), help="of each process")
    made.add_argument("--prompts", type=int, default=4, help="prompts a round, B")
    made.add_argument("--group-size", type=int, default=4, help="samples of each prompt, G")
    made.add_argument("--prompt-tokens", type=int, default=192, help="longer prompts are not taken")
    made.add_argument("--new-tokens", type=int, default=128, help="most tokens of a completion")
    made.add_argument("--rank", type=int, default=16, help="of LoRA, on all linear layers")
    made.add_argument("--learning-rate", type=float, default=1e-5, help="of every player")
    made.add_argument("--kl", type=float, default=0.0, help="coefficient of the KL; 0 needs no reference pass")
    made.add_argument("--rounds", type=int, default=1, help="timed rounds of a process")
    made.add_argument("--microbatch", type=int, default=1024, help="max_tokens_per_microbatch of ours")
    made.add_argument("--checkpointing", action="store_true", help="compute activations again in the backward pass")
    made.add_argument("--sampler", default=Work.sampler, help="class path of our sampler")
    made.add_argument("--sampler-arguments", type=json.loads, default={}, help='JSON, as {"weights": "InPlace"}')
    made.add_argument("--quick", action="store_true", help="a tiny built-in model, to see that all of it runs")
    made.add_argument("--out", type=Path, help="JSON to write")
    return made


def settle(given: argparse.Namespace) -> argparse.Namespace:
    """Make the model a folder; with ``--quick`` the tiny one, and few tokens."""
    if given.quick:
        given.model, given.new_tokens, given.prompts = TINY, min(given.new_tokens, 12), min(given.prompts, 2)
    given.model = str(Path(BackboneSpec(given.model).path).resolve())
    return given


def work(given: argparse.Namespace, algorithm: str, **changes: Any) -> Work:
    """The work that the options ask for.

    Args:
        given: from :func:`parser`, settled.
        algorithm: as in :class:`Work`.
        changes: of the work's fields; ``prompts`` counts its questions.
    """
    count = changes.pop("prompts", SFT_BATCH if algorithm == "sft" else given.prompts)
    demonstrations = Arithmetic(min_steps=4, max_steps=6) if given.quick else source(given.data)
    system_prompt = None if given.quick else gsm8k_system_prompt()
    settings = {
        "system_prompt": system_prompt,
        "group_size": given.group_size,
        "new_tokens": given.new_tokens,
        "rounds": given.rounds,
        "rank": given.rank,
        "learning_rate": given.learning_rate,
        "kl": given.kl,
        "microbatch_tokens": given.microbatch,
        "microbatch_rows": given.group_size,
        "checkpointing": given.checkpointing,
        "quantisation": given.quantisation,
        "device": given.device,
        "sampler": given.sampler,
        "sampler_arguments": given.sampler_arguments,
        "threads": given.threads,
    }
    asked = questions(given.model, count, demonstrations, system_prompt=system_prompt, most_tokens=given.prompt_tokens)
    return Work(algorithm, given.model, asked, **{**settings, **changes})
