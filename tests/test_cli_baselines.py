"""The shipped configurations of the baselines, run through the command line on a model that learns in seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rairl_lightning.cli import main
from rairl_lightning.reporting.events import read_curves
from rairl_lightning.reporting.files import Notes

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ANY_WARNING = pytest.mark.filterwarnings("default")  # of the Trainer, about this machine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set in GSM8K's own form, in the words of the toy language."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    rows = [json.dumps({"question": f"gate {gate}", "answer": "1 + 2 = 3\ngo left\n#### 3"}) for gate in range(24)]
    (folder / "train.jsonl").write_text("\n".join(rows[:20]))
    (folder / "test.jsonl").write_text("\n".join(rows[20:]))
    return folder


@pytest.fixture
def tiny(base: Path, tmp_path: Path) -> Path:
    """The overlay that a user would write for a model of their own."""
    pair = {"backbone": {"path": str(base), "quantisation": None, "dtype": "float32"}, "policy_lora": {"r": 4}}
    arguments = {"pair": {"init_args": pair}, "sampler": {"init_args": {"max_new_tokens": 24}}}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
    return file


def logged(run: Path) -> dict[str, list[float]]:
    (file,) = run.rglob("events.out.*")
    events = EventAccumulator(str(file)).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def rairl(*args: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["rairl"])
    return main(args)


@ANY_WARNING
@pytest.mark.parametrize(("name", "overlays"), [("gsm8k_sft", []), ("gsm8k_grpo", ["short/grpo"])])
def test_a_baseline_is_fitted_tested_and_continued(
    name: str, overlays: list[str], data: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run folder is relative
    files = [CONFIGS / f"{one}.yaml" for one in (name, "hardware/cpu", *overlays)] + [tiny]
    common = [*(f"--config={file}" for file in files), f"--data.path={data}"]
    assert rairl("fit", *common, monkeypatch=monkeypatch) == 0
    run = tmp_path / "runs" / name
    values = logged(run)
    last = run / "checkpoints" / "last.ckpt"
    clock = torch.load(last, weights_only=True)["rairl"]["clock"]
    assert clock["sft_epoch"] == 1 and clock["round"] == (3 if "grpo" in name else 0)
    assert {path.name for path in (run / "adapters").iterdir()} == {"policy"}
    assert min(values["sft/update_norm"]) > 0 and len(values["selection/pass@1"]) >= 1
    if "grpo" in name:
        assert len(values["reward/mean"]) == 3 and 0 <= min(values["reward/mean"]) <= max(values["reward/mean"]) <= 1.1
        assert values["health/level"] == [0.0] * 3
    else:
        assert "selection/rerank/majority" in values and "selection/rerank/reward" not in values
    assert rairl("test", *common, f"--ckpt_path={last}", monkeypatch=monkeypatch) == 0
    curves = read_curves(run, Notes())
    assert "test/pass@1" in curves and len(curves["sft/loss"]) == len(values["sft/loss"]), "of the training too"
    before = last.read_bytes()
    assert rairl("fit", *common, f"--ckpt_path={last}", monkeypatch=monkeypatch) == 0
    again, first = (torch.load(one, weights_only=True)["state_dict"] for one in (last, _copy(tmp_path, before)))
    assert all(torch.equal(again[key], first[key]) for key in first), "a finished run is not continued"


def _copy(folder: Path, content: bytes) -> Path:
    file = folder / "copy.ckpt"
    file.write_bytes(content)
    return file


@ANY_WARNING
def test_a_baseline_refuses_what_only_rairl_has(
    data: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = [f"--config={CONFIGS / 'gsm8k_grpo.yaml'}", f"--config={tiny}", f"--data.path={data}"]
    assert rairl("fit", *common, "--model.init_args.warmup.updates=3", monkeypatch=monkeypatch) == 2
    assert "warmup" in capsys.readouterr().err
