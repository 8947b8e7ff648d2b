"""Every rollout says which weights drew it, and a sampler that falls behind is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_vllm
import gates
import pytest

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.errors import TrainingError
from rairl_lightning.rollouts import HFSampler, VLLMSampler


class Stamped(HFSampler):
    """Says that its traces are of these weights."""

    version: str | None = None

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        return replace(super().sample(*args, **kwargs), version=self.version)


def sampled(base: Path, tmp_path: Path, version: str | None) -> tuple[Any, Any]:
    sampler = Stamped(8)
    object.__setattr__(sampler, "version", version)
    module = gates.module(gates.full(base), sampler=sampler, rounds=1, warmup=Warmup(updates=0))
    seen = []
    sample = module.sample
    module.sample = lambda *args: seen.append(sample(*args)) or seen[-1]  # type: ignore[method-assign]
    gates.trainer(tmp_path).fit(module, gates.data())
    return module, seen[0]


def test_a_round_is_of_the_weights_that_it_started_with(base: Path, tmp_path: Path) -> None:
    module, rollouts = sampled(base, tmp_path, None)
    fresh = gates.module(gates.full(base))
    fresh.configure_model()
    assert rollouts.version == fresh.models.policy.version() != module.models.policy.version()


def test_rollouts_of_other_weights_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not the policy's of now[\s\S]*got:      version stale"):
        sampled(base, tmp_path, "stale")


def test_training_hands_the_adapter_over_once_an_update(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = fake_vllm.install(monkeypatch)
    sampler = VLLMSampler(8, max_prompt_tokens=40, probe_tokens=2)
    module = gates.module(gates.shared(base), sampler=sampler, rounds=2, warmup=Warmup(updates=2))
    trainer = gates.trainer(tmp_path)
    trainer.fit(module, gates.data())
    # A round of warm-up and the first after it draw from the same weights.
    assert trainer.logger.having("sampler/handed_over") == [1, 1, 2]
    assert max(trainer.logger.having("sampler/probe_gap")) < 1e-5 > max(trainer.logger.having("sampler/gap_max"))
    assert [one.lora_int_id for one in llm.made[0].loaded] == [1, 2]
