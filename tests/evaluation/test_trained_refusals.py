"""What a trained reward refuses to be read from, and older or foreign artefacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from short_runs import edit_checkpoint, some_tokens, train

from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.components import (
    ClippedLogit,
    Dense,
    Pooling,
    SingleHead,
    TokenWeighted,
)
from rairl_lightning.components.description import described
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.models import LinearHead

SAME = 1e-6


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be broken."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    return file.parent


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
