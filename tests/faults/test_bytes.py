"""Checkpoints whose bytes were damaged, cut or arranged: named, never run, and the one before is offered."""

from __future__ import annotations

import io
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rairl_lightning.callbacks.checkpoint_files import chosen, flaw
from rairl_lightning.errors import CheckpointError


def content(batches: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(batches)
    tensors = {f"policy.{number}": torch.randn(8, 8, generator=generator) for number in range(4)}
    state = {"clock": {"batches": batches, "phase": "adversarial"}, "base": "0123"}
    return {"rairl": state, "state_dict": tensors, "loops": {"position": [1, 2, 3]}, "epoch": 1}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    torch.save(content(3), tmp_path / "checkpoints" / "round-000003.ckpt")
    torch.save(content(4), tmp_path / "checkpoints" / "last.ckpt")
    return tmp_path


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """One change of the kinds that disks, copies and people make."""
    place, length = rng.randrange(len(raw)), rng.randrange(1, 200)
    before, after = raw[:place], raw[place:]
    kinds: list[Callable[[], bytes]] = [
        lambda: before + bytes([after[0] ^ 1 << rng.randrange(8)]) + after[1:],
        lambda: before,
        lambda: before + bytes(len(after[:length])) + after[length:],
        lambda: before + after[:length] + after,
        lambda: before + after[length:],
        lambda: before + rng.randbytes(length) + after,
    ]
    return rng.choice(kinds)()


@pytest.mark.filterwarnings("ignore:.* is left out")
@pytest.mark.parametrize("times", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_bytes_are_named_or_do_not_matter(run: Path, fault: Any, times: int) -> None:
    last, before = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "round-000003.ckpt"
    raw, rng, named = last.read_bytes(), random.Random(times), 0
    with fault("damaged checkpoint bytes", times):
        for _ in range(times):
            last.write_bytes(damaged(raw, rng))
            if flaw(last) is None:  # a byte that no tensor or number depends on, such as padding
                assert same(torch.load(last, weights_only=True), content(4))
                assert chosen(str(last), run, fit=True) == str(last)
                continue
            named += 1
            with pytest.raises(CheckpointError) as refused:
                chosen(str(last), run, fit=True)
            assert str(last) in str(refused.value) and f"--ckpt_path {before}" in str(refused.value)
            assert chosen("last", run, fit=True) == str(before)
    assert named > times // 2


class Trap:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran"),)


def zipped(pickled: bytes) -> bytes:
    """A torch archive whose checksums are right, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", part)
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


FOREIGN = {
    "nothing": b"",
    "text": b"no checkpoint",
    "code": saved({"rairl": Trap()}),
    "a bare pickle": pickle.dumps({"rairl": Trap()}),
    "another program's": saved({"state_dict": {}}),
    "a list": saved([1, 2]),
    "no clock": saved({"rairl": {"base": "0"}}),
    "a clock of another kind": saved({"rairl": {"clock": [4]}}),
    "steps that are no number": saved({"rairl": {"clock": {"batches": "9"}}}),
    "a state of another kind": saved({"rairl": 5}),
    "an archive of something else": zipped(b"\x80\x02]q\x00."),
    "an empty archive": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.filterwarnings("ignore:.* is left out")
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_named_and_not_run(run: Path, fault: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(run)
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(FOREIGN[kind])
    with fault("foreign checkpoint"):
        with pytest.raises(CheckpointError, match="round-000003"):
            chosen(str(last), run, fit=True)
        assert chosen("last", run, fit=True) == str(run / "checkpoints" / "round-000003.ckpt")
        assert not Path("ran").exists()


@pytest.mark.filterwarnings("ignore:.* is left out")
@pytest.mark.parametrize("times", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_arranged_pickles_end_in_a_refusal(run: Path, fault: Any, times: int) -> None:
    """Checksums are right and the pickle is not: whatever its machine is told to do, it is an answer, not a crash."""
    last = run / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(last) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    rng = random.Random(times)
    with fault("arranged checkpoint pickle", times), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(times):
            last.write_bytes(zipped(damaged(pickled, rng)))
            assert flaw(last) is not None, "its tensors are missing in any case"
