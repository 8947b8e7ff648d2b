"""Tables of a localisation."""

from __future__ import annotations

import io

from rich.console import Console

from rairl_lightning.evaluation.localisation.table import print_pairs


def test_names_from_a_file_do_not_steer_the_terminal() -> None:
    cells = {"token": [0.5, 0.4, 0.6]}
    measure = {"chance": cells, "reward": cells}
    report = {
        **{name: measure for name in ("hit@1", "mrr", "map", "gain")},
        "by_kind": {"kind\u202e\x1b[2J[red]": {"traces": 1, "hit@1": measure}},
        "clean_preferred": {"reward": cells["token"]},
        "counts": {"left\x07": 2},
    }
    out = io.StringIO()
    print_pairs(report, Console(file=out, width=140, color_system=None))
    shown = out.getvalue()
    assert r"kind\u202e\x1b[2J[red] (1)" in shown and r"left\x07 2" in shown
    assert not {"\x1b", "\u202e", "\x07"} & set(shown)
