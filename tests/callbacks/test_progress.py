"""One line a tenth of a phase where there is no terminal."""

from __future__ import annotations

import io
from pathlib import Path

import gates
import pytest
from rich.console import Console

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import RoundProgress
from rairl_lightning.components import Fixed
from rairl_lightning.rollouts import HFSampler


def lines(base: Path, folder: Path, rounds: int, console: Console | None = None) -> RoundProgress:
    progress = RoundProgress()
    if console is not None:
        progress._console = console
    sft = SFTInitialisation(1, monitor="log_likelihood")
    short = {"group_size": 2, "sampler": HFSampler(max_new_tokens=4), "discriminator_updates": Fixed(1)}
    module = gates.module(gates.full(base), sft=sft, warmup=Warmup(2), rounds=rounds, **short)
    gates.trainer(folder, [progress], limit_val_batches=1.0).fit(module, datamodule=gates.data())
    return progress


def test_a_log_file_gets_a_line_at_every_tenth(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(base, tmp_path, 20)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    adversarial = [line for line in printed if line[0] == "adversarial"]
    assert [line[1] for line in adversarial] == [f"{round_}/20" for round_ in range(0, 21, 2)]
    assert {line[0] for line in printed} == {"sft", "warm-up", "adversarial"}
    for figure in ("reward", "agree", "KL"):
        assert figure in adversarial[-1]


def test_a_terminal_gets_a_bar_that_is_closed(base: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    progress = lines(base, tmp_path, 3, Console(file=out, force_terminal=True, width=120))
    assert progress._progress is None and "3/3" in out.getvalue()
