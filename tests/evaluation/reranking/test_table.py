"""Tables of a reranking."""

from __future__ import annotations

import io

from reranked import POOLING, scored
from rich.console import Console

from rairl_lightning.evaluation.calibration import NoCalibration
from rairl_lightning.evaluation.reranking.partition import Partition
from rairl_lightning.evaluation.reranking.report import report_of
from rairl_lightning.evaluation.reranking.table import print_report


def test_categories_from_a_file_do_not_steer_the_terminal() -> None:
    questions = [
        scored("a", "rw", [1.0, 0.0], category="[b]x\x1b[2J"),
        scored("b", "rw", [0.0, 1.0], "BB", category="y\u202e"),
    ]
    report, _ = report_of(Partition.by_hash(questions, 0), [POOLING], NoCalibration(), (2,), 0)
    out = io.StringIO()
    print_report(report, Console(file=out, width=140, color_system=None))
    shown = out.getvalue()
    assert r"[b]x\x1b[2J (1)" in shown and r"y\u202e (1)" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
