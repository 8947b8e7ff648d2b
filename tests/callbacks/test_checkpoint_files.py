"""Which checkpoint is gone on from, and what is said of those that are not whole."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from rairl_lightning.callbacks.checkpoint_files import chosen, flaw, furthest
from rairl_lightning.errors import CheckpointError


def written(path: Path, batches: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"rairl": {"clock": {"batches": batches}}, "tensor": torch.arange(1000)}, path)
    return path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(torch.arange(500, 508).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


def code(path: Path) -> None:
    torch.save({"rairl": os.system}, path)


def text(path: Path) -> None:
    path.write_text("no checkpoint")


BREAKS: dict[Any, str] = {
    truncated: "truncated",
    flipped: "damaged",
    foreign: "not written by rairl_lightning",
    code: "plain values",
    text: "no checkpoint at all",
    Path.unlink: "no such file",
}


def test_last_is_the_furthest_whatever_the_clock_says(tmp_path: Path) -> None:
    early, late = written(tmp_path / "checkpoints" / "last.ckpt", 7), written(tmp_path / "interrupted.ckpt", 9)
    os.utime(late, (0, 0))
    assert chosen("last", tmp_path, fit=True) == str(late)
    late.unlink()
    same = written(tmp_path / "checkpoints" / "round-000001.ckpt", 7)
    assert furthest(tmp_path) == early != same
    assert chosen(str(same), tmp_path, fit=True) == str(same) and flaw(same) is None


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_not_whole_is_named_and_the_one_before_is_offered(tmp_path: Path, broken: Any) -> None:
    before = written(tmp_path / "checkpoints" / "round-000003.ckpt", 3)
    last = written(tmp_path / "checkpoints" / "last.ckpt", 4)
    broken(last)
    named = pytest.warns(UserWarning, match="is left out") if last.exists() else nullcontext()
    with named, pytest.raises(CheckpointError) as refused:
        chosen(str(last), tmp_path, fit=True)
    assert str(last) in str(refused.value) and BREAKS[broken] in str(refused.value)
    assert f"--ckpt_path {before}" in str(refused.value)
    with pytest.warns(UserWarning, match="is left out") if last.exists() else nullcontext():
        assert chosen("last", tmp_path, fit=True) == str(before)


def test_without_any_a_run_starts_and_a_test_does_not(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="from its beginning"):
        assert chosen("last", tmp_path, fit=True) is None
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        chosen("last", tmp_path, fit=False)
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        chosen("best", tmp_path, fit=True)
    best = written(tmp_path / "checkpoints" / "best.ckpt", 1)
    assert chosen("best", tmp_path, fit=False) == str(best)
