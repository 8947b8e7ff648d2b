"""A trained reward away from its run: the same scores, from either artefact, or a refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from short_runs import edit_checkpoint, some_tokens, train

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.components import (
    ClippedLogit,
    Dense,
    Interval,
    Last,
    MeanOverGrid,
    Minimum,
    ReadF,
    ReadMixed,
    SingleHead,
    Sparse,
    Step,
    TwoHead,
)
from rairl_lightning.data.demonstrations import Splits
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning, LinearHead, TwoBackbones, TwoHeads

SAME = 1e-6


def two_backbones(base: Path) -> TwoBackbones:
    lora = gates.shared(base).policy_lora
    return TwoBackbones(BackboneSpec(str(base)), BackboneSpec(str(base)), lora, lora, LinearHead())


CASES: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "linear, sparse": (
        lambda base: replace(gates.shared(base), head=LinearHead()),
        {"granularity": Sparse(), "pooling": Last()},
    ),
    "expectation, dense": (gates.shared, {"granularity": Dense(), "critic": SingleHead(head_lr_factor=2.0)}),
    "two heads, step": (
        lambda base: replace(gates.shared(base), head=TwoHeads(ExpectationHead(4), LinearHead())),
        {"granularity": Step(), "critic": TwoHead(read_out=ReadF()), "pooling": Minimum()},
    ),
    "all weights, interval": (
        lambda base: FullFineTuning(BackboneSpec(str(base)), TwoHeads(), "Say where."),
        {"granularity": Interval(3), "critic": TwoHead(read_out=ReadMixed(0.3)), "reward": ClippedLogit(0.5, 2.0)},
    ),
    "two backbones": (two_backbones, {"granularity": Interval(4), "pooling": MeanOverGrid()}),
}


@pytest.mark.parametrize("case", CASES)
def test_checkpoint_and_adapters_score_as_the_module_did(base: Path, tmp_path: Path, case: str) -> None:
    spec, settings = CASES[case]
    module = train(spec(base), tmp_path, **settings)
    tokens = some_tokens(module)
    pay, rewards, traces = module.pay(tokens), module.rewards(tokens), module.trace_rewards(tokens)
    silent = module.pair_spec.build()
    assert not torch.allclose(silent.discriminator.score(tokens, 99), module.models.discriminator.score(tokens, 99))
    for place in (tmp_path, tmp_path / "checkpoints" / "last.ckpt", tmp_path / "adapters"):
        reward = TrainedReward.load(place, device="cpu")
        assert reward.reader == module.reader
        scores = reward.score(tokens)
        assert torch.equal(scores.grid_NT, module.reader.granularity(tokens))
        for ours, theirs in ((scores.pay_NT, pay), (scores.rewards_NT, rewards), (scores.traces_N, traces)):
            assert torch.allclose(ours, theirs, atol=SAME)
        assert not any(module.training for module in reward.models.modules())
        assert not any(parameter.requires_grad for parameter in reward.models.parameters())
        again = reward.models.adapter_state("policy")
        assert gates.largest_difference(again, module.models.adapter_state("policy")) == 0


def test_a_reference_that_sft_moved_comes_along(run: Path) -> None:
    reward = TrainedReward.load(run, device="cpu")
    assert reward.models.reference.anchored
    assert not TrainedReward.load(run / "adapters", device="cpu").models.reference.anchored


def test_what_it_is_made_of_is_plain_and_named(run: Path) -> None:
    record = json.loads((run / "adapters" / "reward.json").read_text())
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["rairl"]["artefact"]
    assert saved == record and record["format"] == 1 and record["commit"] != ""
    assert record["reader"]["init_args"]["granularity"] == {
        "class_path": "rairl_lightning.components.Dense",
        "init_args": {},
    }


def test_it_knows_the_questions_it_was_trained_on(run: Path, tmp_path: Path) -> None:
    splits = gates.data().source.splits()
    for place in (run, run / "adapters"):
        known = TrainedReward.load(place, device="cpu").trained_on
        assert known.count(one.prompt for one in splits.train) == len(splits.train) == len(known)
        assert known.count(one.prompt for one in (*splits.selection, *splits.test)) == 0, "those are not trained on"
    older = edit_checkpoint(
        Path(shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path)),
        lambda c: c["rairl"]["artefact"].pop("trained_on"),
    )
    assert not TrainedReward.load(older, device="cpu").trained_on


def test_a_run_that_goes_on_with_other_data_was_trained_on_both(base: Path, run: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Later(gates.Gates):
        def splits(self) -> Splits:
            return Splits(tuple(map(gates.solution, range(90, 98))), (gates.solution(70),))

    module = gates.module(gates.shared(base), rounds=2, warmup=Warmup(4), sft=SFTInitialisation(1))
    trainer = gates.trainer(tmp_path, [AdapterCheckpoint()], limit_val_batches=1.0)
    trainer.fit(
        module, datamodule=gates.data(source=Later()), ckpt_path=run / "checkpoints" / "last.ckpt", weights_only=True
    )
    known = TrainedReward.load(tmp_path, device="cpu").trained_on
    assert len(known) == 16 and known.count(["gate 0", "gate 7", "gate 90", "gate 97", "gate 70", "gate 8"]) == 4


def test_reader_parts_can_be_replaced(run: Path) -> None:
    reward = TrainedReward.load(run, device="cpu", pooling=Minimum(), granularity=Interval(2), max_tokens=7)
    assert (reward.reader.pooling, reward.reader.granularity, reward.max_tokens) == (Minimum(), Interval(2), 7)
    assert reward.origin == str(run)


def test_the_fingerprint_follows_all_that_a_score_depends_on(run: Path) -> None:
    reward = TrainedReward.load(run, device="cpu")
    assert TrainedReward.load(run / "adapters", device="cpu", max_tokens=9).fingerprint == reward.fingerprint
    assert replace(reward, reader=replace(reward.reader, pooling=Minimum())).fingerprint != reward.fingerprint
    for tensor in reward.models.adapter_state("discriminator").values():
        value, before = tensor.reshape(-1)[tensor.numel() // 2 - 1], reward.fingerprint
        with torch.no_grad():
            value.add_(1e-3)
        assert reward.fingerprint != before, "one value of any tensor"


def test_a_base_that_moved_is_named_again(base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "first"
    shutil.copytree(base, moved)
    module = train(gates.shared(moved), tmp_path / "run")
    tokens = some_tokens(module)
    expected = module.trace_rewards(tokens)
    moved.rename(tmp_path / "second")
    with pytest.raises(CheckpointError, match="--backbone"):
        TrainedReward.load(tmp_path / "run", device="cpu")
    reward = TrainedReward.load(tmp_path / "run", device="cpu", backbone=str(tmp_path / "second"))
    assert torch.allclose(reward.score(tokens).traces_N, expected, atol=SAME)


def test_a_relative_or_built_in_base_is_found_from_another_folder(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    train(replace(gates.shared(base), backbone=BackboneSpec(base.name)), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert TrainedReward.load(".", device="cpu").codec.fingerprint


def test_one_path_does_not_name_two_backbones(base: Path, tmp_path: Path) -> None:
    train(two_backbones(base), tmp_path)
    with pytest.raises(ConfigError, match="policy_backbone, discriminator_backbone"):
        TrainedReward.load(tmp_path, device="cpu", backbone=str(base))
