"""The ablation's own runs: what they are, what a stored sampler draws, and that a tiny round of all of them works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rairl_lightning.types import Rollouts, TokenBatch, TraceIds

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablation_runs

    return ablation_runs


def line(granularity: str, head: str, area: float, seed: int = 0, algorithm: str = "D") -> dict[str, Any]:
    test = [{"metric": name, "mean": 1 - area} for name in ("auroc", "auroc_within_prompt")]
    measurements = [*test, {"metric": "selection/auroc_within_prompt", "mean": area}]
    names = {
        "stage": "discriminator",
        "algorithm": algorithm,
        "granularity": granularity,
        "head": head,
        "loss": "bce",
        "seed": seed,
    }
    return {**names, "measurements": measurements}


def test_keys_are_unique_and_of_six_parts(runs: Any) -> None:
    lines = [line("dense", "expectation", 0.9), line("step", "expectation", 0.8)]
    every = [*runs.starts(False), *runs.discriminators(False), *runs.policies(False, lines)]
    keys = [run.key for run in every]
    assert len(set(keys)) == len(keys)
    assert {len(Path(key).parts) for key in keys} == {6}


def test_policies_take_the_granularities_that_do_best_on_selection_questions(runs: Any) -> None:
    lines = [
        line("dense", "expectation", 0.7, seed=0),
        line("dense", "expectation", 0.9, seed=1),
        line("step", "expectation", 0.75, seed=0),
        line("step", "expectation", 0.77, seed=1),
        line("interval", "expectation", 0.6),
        line("sparse", "linear", 1.0),  # another head, which must not count
        line("sparse", "expectation", 1.0, algorithm="D experts only"),  # nor may a variant
    ]
    ours = [run for run in runs.policies(False, lines) if run.algorithm == "R-AIRL"]
    assert {(run.granularity, run.head) for run in ours} == {
        ("dense", "expectation"),
        ("step", "expectation"),
        ("dense", "two-head"),
        ("step", "two-head"),
    }
    assert {run.seed for run in ours} == {0, 1, 2}
    assert runs.policies(False, lines[:2]) == [], "one granularity is no choice"


def test_every_policy_starts_from_a_discriminator_that_is_run(runs: Any) -> None:
    lines = [line(name, "expectation", 0.5) for name in ("sparse", "interval")]
    warmed = {(run.granularity, run.head, run.loss, run.seed) for run in runs.discriminators(False)}
    ours = [run for run in runs.policies(False, lines) if run.algorithm == "R-AIRL"]
    assert {(run.granularity, run.head, run.loss, run.seed) for run in ours} <= warmed


def test_every_variant_is_run_once_and_changes_what_it_names(runs: Any) -> None:
    names = [run.algorithm for run in runs.discriminators(False)]
    variants = {f"D {name}" for name in runs.recipe.VARIANTS if name}
    assert {name for name in names if name != "D"} == variants
    assert all(names.count(name) == 1 for name in variants)
    settings = {"granularity": "dense", "head": "expectation", "loss": "bce", "warm": False}
    draws = {
        name: runs.recipe.rairl(runs.recipe.SMOKE, runs.recipe.BASE, 0, **settings, variant=name).draw
        for name in ("", "no perturbations", "half the batch")
    }
    assert (draws[""].count, draws[""].perturbed_share) == (48, 1 / 3)
    assert draws["no perturbations"].perturbed_share == 0
    assert draws["half the batch"].count == 24


def test_no_kind_is_both_trained_on_and_unseen(runs: Any) -> None:
    trained, unseen = ({type(kind) for kind in kinds} for kinds in (runs.recipe.TRAINED, runs.recipe.UNSEEN))
    assert trained
    assert unseen
    assert trained.isdisjoint(unseen)


def test_stored_sampler_gives_each_prompt_its_own_traces(runs: Any) -> None:
    from ablation_sampler import StoredSampler

    prompts, size = [[1, 2], [3], [4, 5, 6]], 5
    traces = [
        TraceIds(prompt, [10 * p + n, 99], [False, True], [(0, 1), (1, 2)])
        for p, prompt in enumerate(prompts)
        for n in range(size)
    ]
    tokens = TokenBatch.from_traces(traces, 0)
    first_N = torch.tensor([trace.completion_ids[0] for trace in traces])
    stored = Rollouts(
        tokens,
        first_N.unsqueeze(1) * tokens.completion_mask.float(),
        first_N % 2 == 0,
        tuple(str(int(first)) for first in first_N),
        size,
    )
    asked = [prompts[2], prompts[0]]
    drawn = StoredSampler(stored).sample(None, asked, 3, None, torch.Generator().manual_seed(0))
    found = [trace.completion_ids[0] for trace in drawn.tokens.traces()]
    assert [trace.prompt_ids for trace in drawn.tokens.traces()] == [[4, 5, 6]] * 3 + [[1, 2]] * 3
    assert set(found[:3]) <= set(range(20, 25))
    assert set(found[3:]) <= set(range(5))
    assert len(set(found)) == 6, "without replacement"
    assert [int(text) for text in drawn.texts] == found
    assert drawn.finished.tolist() == [first % 2 == 0 for first in found]
    assert torch.equal(drawn.logprobs, torch.tensor(found).unsqueeze(1) * drawn.tokens.completion_mask.float())
    again = StoredSampler(stored).sample(None, asked, 3, None, torch.Generator().manual_seed(1))
    assert again.texts != drawn.texts


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_smoke_runs_everything(tmp_path: Path) -> None:
    """Every arm, on a few questions: minutes, and no figure of it means anything."""
    command = [sys.executable, str(BENCHMARKS / "ablation.py"), "--out", str(tmp_path), "--smoke"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(row) for row in (tmp_path / "smoke" / "runs.jsonl").read_text().splitlines()]
    assert {row["algorithm"] for row in lines} == {"SFT", "D", "R-AIRL", "GRPO", "SFT continued"}
    assert all("error" not in row for row in lines)
