"""The script that times a decoding step by how the weights are held."""

import decoding_step
import pytest


def test_every_way_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    decoding_step.main(
        ["--model", "builtin:dials", "--rows", "8", "--steps", "3", "--prompt", "4", "--repetitions", "1"]
    )
    heads, _, *rows = capsys.readouterr().out.splitlines()
    assert heads == "| weights | first copy, ms | later copies, ms | step, ms | least step, ms |"
    figures = {cells[1].strip(): [float(cell) for cell in cells[2:-1]] for cells in (row.split("|") for row in rows)}
    assert list(figures) == ["Native", "Packed", "InPlace", "DynamicInt8"]
    assert all(one[2] == one[3] > 0 for one in figures.values()), "of one turn the median is the least"


def test_rows_that_no_prompts_would_have_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        decoding_step.main(["--rows", "18"])
    assert "multiple" in capsys.readouterr().err
