"""A disk that is full, or may not be written: it is said, the checkpoint before is whole, and the run goes on later."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from faulty_runs import Marks, final, fit
from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks.checkpoint_files import flaw, furthest
from rairl_lightning.callbacks.checkpoint_io import WholeCheckpointIO
from rairl_lightning.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:No whole checkpoint")
MIB = 2**20


def short(base: Path) -> Any:
    """A step of warm-up and three rounds."""
    return gates.module(gates.shared(base, dropout=0.1), warmup=Warmup(2), rounds=3)


class At(Callback):
    """Does something at the beginning of a step."""

    def __init__(self, step: int, do: Callable[[], object]) -> None:
        self.step, self.do = step, do

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.clock.batches == self.step:
            self.do()


def mounted(*args: str) -> bool:
    mount = shutil.which("mount")
    return mount is not None and subprocess.run([mount, *args], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not mounted("-t", "tmpfs", "-o", f"size={4 * MIB}", "tmpfs", str(folder)):
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def unbroken(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from multiprocessing import get_context

    folder = tmp_path_factory.mktemp("unbroken")
    process = get_context("fork").Process(target=fit, args=(base, folder, Marks(), (), short))
    process.start()
    process.join()
    return final(folder)["state"]


def fill(folder: Path) -> None:
    """Take what is left."""
    try:
        with (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC


def limit() -> None:
    """No file may grow beyond a thousand bytes: what a quota of a shared machine looks like."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


def dies(base: Path, folder: Path, step: int, do: Callable[[], object], curves: bool = False) -> None:
    settings = {"logger": TensorBoardLogger(folder, "logs")} if curves else {}
    fit(base, folder, Marks(), [At(step, do)], short, **settings)


def goes_on(base: Path, folder: Path, unbroken: Any, processes: Any) -> None:
    assert processes.run(fit, base, folder, Marks(), (), short) == 0
    assert gates.largest_difference(final(folder)["state"], unbroken) == 0


@pytest.mark.parametrize("curves", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk(
    base: Path, disk: Path, unbroken: Any, processes: Any, fault: Any, step: int, curves: bool
) -> None:
    folder = disk / "run"
    with fault("disk full") as tally:
        code, said = processes.heard(dies, base, folder, step, lambda: fill(disk), curves)
        assert code == CheckpointError.exit_code and "The disk is full" in said and "Traceback" not in said, said
        before = furthest(folder)
        assert before is not None
        steps = torch.load(before, weights_only=True)["rairl"]["clock"]["batches"]
        tally.lost_rounds += step - steps
        assert steps == step, "the step that was saved before it"
        assert not list(folder.rglob("*.writing")), "what was begun does not fill the disk"
        (disk / "filler").unlink()
        goes_on(base, folder, unbroken, processes)


def test_a_quota(base: Path, tmp_path: Path, unbroken: Any, processes: Any, fault: Any) -> None:
    with fault("file size limit"):
        code, said = processes.heard(dies, base, tmp_path, 2, limit)
        assert code == CheckpointError.exit_code and "The disk is full" in said and "Traceback" not in said, said
        assert furthest(tmp_path) is not None
        goes_on(base, tmp_path, unbroken, processes)


@pytest.mark.slow
def test_a_folder_that_becomes_read_only(base: Path, disk: Path, unbroken: Any, processes: Any, fault: Any) -> None:
    folder = disk / "run"
    with fault("read-only output folder"):
        code, said = processes.heard(dies, base, folder, 2, lambda: mounted("-o", "remount,ro", str(disk)))
        assert code == CheckpointError.exit_code and "cannot be read or written" in said, said
        assert mounted("-o", "remount,rw", str(disk))
        goes_on(base, folder, unbroken, processes)


def test_a_folder_that_is_read_only_is_refused_before_anything_is_trained(
    disk: Path, fault: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    import cli_toy

    from rairl_lightning.cli import guarded
    from rairl_lightning.cli_parser import launch

    monkeypatch.setattr(sys, "argv", ["rairl"])
    assert mounted("-o", "remount,ro", str(disk))
    flags = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    with fault("read-only output folder"):
        for folder in (disk, disk / "new"):
            args = ["fit", "--model=cli_toy.Toy", f"--trainer.default_root_dir={folder}", *flags]
            assert guarded(lambda args=args: launch(args, cli_toy.ToyData)) == CheckpointError.exit_code
            told = capsys.readouterr()
            assert str(folder) in told.err and "--trainer.default_root_dir" in told.err
            assert "round" not in told.out


def test_a_checkpoint_is_written_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not through memory and the folder for temporary files, which may be small."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "new" / "a.ckpt"
    io = WholeCheckpointIO()
    io.save_checkpoint({"rairl": {"clock": {"batches": 1}}}, path)
    assert flaw(path) is None and [one.name for one in path.parent.iterdir()] == ["a.ckpt"]
    with pytest.raises(TypeError):  # a lambda cannot be written: the file of that name stays as it is
        io.save_checkpoint({"rairl": (one for one in ())}, path)
    assert flaw(path) is None and [one.name for one in path.parent.iterdir()] == ["a.ckpt"]
