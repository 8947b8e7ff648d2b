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
import yaml
from safetensors.torch import load_file, save_file

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.components import (
    ClippedLogit,
    Dense,
    Interval,
    Last,
    MeanOverGrid,
    Minimum,
    Pooling,
    ReadF,
    ReadMixed,
    SingleHead,
    Sparse,
    Step,
    TokenWeighted,
    TwoHead,
)
from rairl_lightning.components.description import described
from rairl_lightning.data.demonstrations import Splits
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning, LinearHead, TwoBackbones, TwoHeads
from rairl_lightning.module import RAIRL
from rairl_lightning.types import TokenBatch

SAME = 1e-6


def train(spec: Any, folder: Path, **settings: Any) -> RAIRL:
    optimizer = gates.optimizer(1e-2)
    module = gates.module(spec, **{"rounds": 1, "warmup": Warmup(4), "discriminator_optimizer": optimizer, **settings})
    limits = {"limit_val_batches": 1.0} if "sft" in settings else {}
    gates.trainer(folder, [AdapterCheckpoint()], **limits).fit(module, datamodule=gates.data())
    return module


def some_tokens(module: Any) -> TokenBatch:
    codec = module.codec
    traces = [codec.encode_demonstration(gates.solution(gate, way)) for gate in (3, 17) for way in ("left", "right")]
    return TokenBatch.from_traces(traces, codec.pad_id)


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


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests copy what they break."""
    folder = tmp_path_factory.mktemp("run")
    train(gates.shared(base), folder, sft=SFTInitialisation(1, monitor="log_likelihood"))
    return folder


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
    before = reward.fingerprint
    with torch.no_grad():
        next(iter(reward.models.adapter_state("discriminator").values())).add_(1e-3)
    assert reward.fingerprint != before


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


# --- Refusals -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be broken."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    return file.parent


def edit_checkpoint(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    checkpoint = torch.load(file, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, file)
    return file


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(codec="0123"), r"(?s)another tokenizer, chat template.*codec 0123.*codec [0-9a-f]{16}"),
        (lambda r: r.update(base="0123"), r"(?s)another base model.*base 0123.*base [0-9a-f]{16}"),
        (lambda r: r.update(format=2), "newer version"),
        (lambda r: r.update(format="x"), "newer version"),
        (lambda r: r.pop("pair"), "--run_config"),
        (lambda r: r.update(reader=None), "a baseline"),
        (lambda r: r["reader"]["init_args"].update(more=1), "RewardReader with more"),
        (lambda r: r["reader"].update(class_path="os.system"), "was not imported"),
        (lambda r: r["pair"]["init_args"]["discriminator_lora"]["init_args"].update(r=2), "another shape"),
        (lambda r: r["pair"]["init_args"].update(head=described(LinearHead())), "unexpected"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(copy: Path, change: Any, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        TrainedReward.load(edit(copy / "adapters" / "reward.json", change), device="cpu")
    file = edit_checkpoint(copy / "checkpoints" / "last.ckpt", lambda c: change(c["rairl"]["artefact"]))
    with pytest.raises(CheckpointError, match=told):
        TrainedReward.load(file, device="cpu")


def test_a_template_changed_after_training_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    train(gates.shared(tmp_path / "base"), tmp_path / "run")
    template = tmp_path / "base" / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|bos|>", "<|bos|>\n"))
    with pytest.raises(CheckpointError, match="chat template"):
        TrainedReward.load(tmp_path / "run", device="cpu")


def test_missing_and_unexpected_tensors_are_refused(copy: Path) -> None:
    head = copy / "adapters" / "discriminator" / "head.safetensors"
    state = load_file(head)
    save_file(dict(list(state.items())[1:]), head)
    with pytest.raises(CheckpointError, match="1 missing"):
        TrainedReward.load(copy / "adapters", device="cpu")
    file = edit_checkpoint(
        copy / "checkpoints" / "last.ckpt", lambda c: c["state_dict"].update({"discriminator.head.x": torch.zeros(1)})
    )
    with pytest.raises(CheckpointError, match="1 unexpected"):
        TrainedReward.load(file, device="cpu")


def test_a_baseline_has_no_reward(base: Path, tmp_path: Path) -> None:
    gates.trainer(tmp_path, [AdapterCheckpoint()]).fit(gates.grpo(gates.shared(base)), datamodule=gates.data())
    for place in (tmp_path, tmp_path / "adapters"):
        with pytest.raises(CheckpointError, match="a baseline"):
            TrainedReward.load(place, device="cpu")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "7"])
def test_a_broken_description_is_one_message(copy: Path, text: str) -> None:
    (copy / "adapters" / "reward.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"reward\.json cannot be read"):
        TrainedReward.load(copy / "adapters", device="cpu")


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing at this path"):
        TrainedReward.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no trained reward"):
        TrainedReward.load(tmp_path)
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TrainedReward.load(tmp_path / "x.ckpt")


# --- Older checkpoints, and the user's own classes ----------------------------------------------------------------


def configuration(base: Path) -> dict[str, Any]:
    spec = gates.shared(base)
    parts = {"critic": SingleHead(), "granularity": Dense(), "reward": ClippedLogit(), "pooling": TokenWeighted()}
    return {"model": {"init_args": {"pair": described(spec), **{k: described(v) for k, v in parts.items()}}}}


def test_an_older_checkpoint_asks_for_its_configuration(base: Path, copy: Path) -> None:
    expected = TrainedReward.load(copy, device="cpu")
    file = edit_checkpoint(copy / "checkpoints" / "last.ckpt", lambda c: c["rairl"].pop("artefact"))
    (copy / "adapters" / "reward.json").unlink()
    config = copy / "config.yaml"
    for place in (file, copy / "adapters"):
        with pytest.raises(CheckpointError, match=r"add --run_config runs/…/config\.yaml"):
            TrainedReward.load(place, device="cpu")
    config.write_text(yaml.safe_dump(configuration(base)))
    with pytest.raises(CheckpointError, match=f"add --run_config {config}"):
        TrainedReward.load(file, device="cpu")
    tokens = some_tokens(expected)
    for place in (file, copy / "adapters"):
        reward = TrainedReward.load(place, device="cpu", config=config)
        assert torch.allclose(reward.score(tokens).traces_N, expected.score(tokens).traces_N, atol=SAME)


def test_a_configuration_without_the_reward_is_refused(base: Path, copy: Path) -> None:
    config = copy / "config.yaml"
    given = configuration(base)
    del given["model"]["init_args"]["critic"]
    for text in (yaml.safe_dump(given), "[", "7", "model: 3"):
        config.write_text(text)
        with pytest.raises(ConfigError, match=r"pair, critic, granularity, reward, pooling"):
            TrainedReward.load(copy, device="cpu", config=config)


@dataclass(frozen=True)
class Doubled(TokenWeighted):
    """A user's own pooling."""

    def __call__(self, *args: Any) -> Any:
        return 2 * super().__call__(*args)


class Undescribed(Pooling):
    """One that no plain values describe."""

    def __call__(self, *args: Any) -> Any:
        return TokenWeighted()(*args)


def test_a_plugin_is_built_when_it_is_named(base: Path, tmp_path: Path) -> None:
    module = train(gates.shared(base), tmp_path, pooling=Doubled())
    with pytest.raises(CheckpointError, match="--plugins"):
        TrainedReward.load(tmp_path, device="cpu")
    package = Doubled.__module__.partition(".")[0]
    reward = TrainedReward.load(tmp_path, device="cpu", plugins=[package])
    tokens = some_tokens(module)
    assert torch.allclose(reward.score(tokens).traces_N, module.trace_rewards(tokens), atol=SAME)


def test_a_component_that_cannot_be_described_hinders_no_training(base: Path, tmp_path: Path) -> None:
    train(gates.shared(base), tmp_path, pooling=Undescribed())
    with pytest.raises(CheckpointError, match=r"(?s)Undescribed cannot be described.*--run_config"):
        TrainedReward.load(tmp_path, device="cpu")
