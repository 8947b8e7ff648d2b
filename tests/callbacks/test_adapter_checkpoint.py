"""Files that are whole, few, and readable by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning import Callback
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.errors import ConfigError


def fit(base: Path, folder: Path, spec: Any = gates.full, rounds: int = 5, **settings: Any) -> Any:
    module = gates.module(spec(base), rounds=rounds, warmup=Warmup(0))
    gates.trainer(folder, [AdapterCheckpoint(**settings)]).fit(module, datamodule=gates.data())
    return module


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def clock(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)["rairl"]["clock"]


@pytest.mark.parametrize(("keep", "numbered"), [(0, []), (1, [5]), (2, [4, 5]), (9, [2, 4, 5])])
def test_last_and_the_newest_are_kept(base: Path, tmp_path: Path, keep: int, numbered: list[int]) -> None:
    fit(base, tmp_path, every_n_rounds=2, keep=keep)
    assert names(tmp_path) == ["last.ckpt", *(f"round-{round_:06d}.ckpt" for round_ in numbered)]
    assert clock(tmp_path / "checkpoints" / "last.ckpt")["round"] == 5
    for round_ in numbered:
        assert clock(tmp_path / "checkpoints" / f"round-{round_:06d}.ckpt")["round"] == round_


def test_a_numbered_checkpoint_does_not_follow_the_last(base: Path, tmp_path: Path) -> None:
    fit(base, tmp_path, rounds=2, every_n_rounds=1, keep=2)
    folder = tmp_path / "checkpoints"
    assert clock(folder / "round-000001.ckpt")["round"] == 1 != clock(folder / "last.ckpt")["round"]
    assert (folder / "last.ckpt").samefile(folder / "round-000002.ckpt"), "no second copy"


def test_a_warmup_that_dies_has_left_its_last_checkpoint(base: Path, tmp_path: Path) -> None:
    """A reward alone is all warm-up, of hours."""

    class Dies(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if pl_module.clock.batches == 5:
                raise RuntimeError("out of power")

    module = gates.module(gates.full(base), rounds=0, warmup=Warmup(100))
    with pytest.raises(RuntimeError, match="power"):
        gates.trainer(tmp_path, [AdapterCheckpoint(every_n_rounds=2), Dies()]).fit(module, datamodule=gates.data())
    assert names(tmp_path) == ["last.ckpt"]
    saved = clock(tmp_path / "checkpoints" / "last.ckpt")
    assert (saved["batches"], saved["phase"], saved["round"]) == (4, "warm-up", 0)


def test_the_end_of_the_warmup_is_saved(base: Path, tmp_path: Path) -> None:
    """The first round may be the one that is not survived."""

    class Dies(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if pl_module.clock.phase == "adversarial":
                raise RuntimeError("out of power")

    module = gates.module(gates.full(base), rounds=3, warmup=Warmup(6))
    with pytest.raises(RuntimeError, match="power"):
        gates.trainer(tmp_path, [AdapterCheckpoint(every_n_rounds=50), Dies()]).fit(module, datamodule=gates.data())
    saved = clock(tmp_path / "checkpoints" / "last.ckpt")
    assert (saved["discriminator_updates"], saved["phase"], saved["round"]) == (6, "adversarial", 0)


class Scores(Callback):
    """Logs a selection metric after some rounds."""

    def __init__(self, *scores: float | None) -> None:
        self.scores = scores

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        score = self.scores[pl_module.clock.round - 1]
        if score is not None:
            trainer.callback_metrics["selection/score"] = torch.tensor(score)


def test_the_best_is_of_the_round_that_was_measured_and_survives_a_resume(base: Path, tmp_path: Path) -> None:
    def run(scores: Scores, rounds: int, ckpt_path: Any = None) -> int:
        saving = AdapterCheckpoint(every_n_rounds=100, monitor="selection/score")
        module = gates.module(gates.full(base), rounds=rounds, warmup=Warmup(0))
        gates.trainer(tmp_path, [scores, saving]).fit(module, datamodule=gates.data(), ckpt_path=ckpt_path)
        return clock(tmp_path / "checkpoints" / "best.ckpt")["round"]

    assert run(Scores(None, 0.5, None, 0.4), 4) == 2
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert run(Scores(*[None] * 4, 0.5, 0.45), 6, last) == 2, "a tie is no better, and the score was remembered"
    assert run(Scores(*[None] * 6, 0.6, None), 8, last) == 7
    assert names(tmp_path) == ["best.ckpt", "last.ckpt", "round-000008.ckpt"]


def test_the_best_is_chosen_on_selection_and_a_metric_nobody_logs_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="selection split alone"):
        AdapterCheckpoint(monitor="test/pass@1")
    with pytest.warns(UserWarning, match="never logged"):
        fit(base, tmp_path, rounds=1, monitor="selection/nobody")


def test_a_full_disk_leaves_the_previous_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def fails_later(checkpoint: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(checkpoint, dict) and checkpoint.get("rairl", {}).get("clock", {}).get("round") == 2:
            raise OSError(28, "No space left on device")
        save(checkpoint, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fails_later)
    with pytest.raises(OSError, match="No space left"):
        fit(base, tmp_path, every_n_rounds=1)
    assert clock(tmp_path / "checkpoints" / "last.ckpt")["round"] == 1


def test_peft_loads_the_policy_without_us(base: Path, tmp_path: Path) -> None:
    module = fit(base, tmp_path, gates.shared, rounds=2)
    model = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([module.codec.encode_prompt("gate 3")])
    start = model(ids).logits
    theirs = PeftModel.from_pretrained(model, tmp_path / "adapters" / "policy").eval()(ids).logits
    ours = module.models.policy.causal_lm.eval()(ids).logits
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)  # our fused layers round in another order
    assert not torch.allclose(start, ours, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "adapters" / "policy").chat_template


def test_adapters_load_back_into_a_pair(base: Path, tmp_path: Path) -> None:
    module = fit(base, tmp_path, gates.shared, rounds=2)
    pair = gates.shared(base).build()
    pair.load_adapters(tmp_path / "adapters")
    for role in ("policy", "discriminator"):
        assert gates.largest_difference(pair.adapter_state(role), module.models.adapter_state(role)) == 0


@pytest.mark.parametrize("wrong", [{"every_n_rounds": 0}, {"keep": -1}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="every_n_rounds >= 1, keep >= 0"):
        AdapterCheckpoint(**wrong)
