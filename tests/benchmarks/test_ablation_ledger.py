"""The ledger survives being cut anywhere, and hides no damage."""

import json
import math
from pathlib import Path

import pytest
from ablation_ledger import Ledger, write_whole

from rairl_lightning.errors import ConfigError, DataError

LINES = [{"key": "a", "µ": 1.5}, {"key": "b", "error": "no"}, {"key": "c", "text": "x\ny"}]


def filled(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    with ledger.locked():
        for line in LINES:
            ledger.append(line)
    return ledger


def test_cut_at_every_byte_the_whole_lines_stay_and_the_next_one_is_whole(tmp_path: Path) -> None:
    data = filled(tmp_path / "full").path.read_bytes()
    assert data.count(b"\n") == len(LINES)
    for cut in range(len(data) + 1):
        ledger = Ledger(tmp_path / str(cut))
        ledger.path.parent.mkdir()
        ledger.path.write_bytes(data[:cut])
        # A line that lacks nothing but its end is whole.
        whole = [line for line, end in zip(LINES, _ends(data), strict=True) if end - 1 <= cut]
        assert ledger.lines() == whole
        with ledger.locked():
            ledger.append({"key": "next"})
        assert [json.loads(text) for text in ledger.path.read_bytes().splitlines()] == [*whole, {"key": "next"}]


def _ends(data: bytes) -> list[int]:
    return [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]


@pytest.mark.parametrize("damage", [b'{"key": "b"', b"[]", b'{"no": "key"}', b"\xff"])
def test_damage_that_no_kill_makes_is_an_error(tmp_path: Path, damage: bytes) -> None:
    ledger = filled(tmp_path)
    ledger.path.write_bytes(ledger.path.read_bytes() + damage)
    assert ledger.lines() == LINES  # as a last line without an end it is torn
    ledger.path.write_bytes(ledger.path.read_bytes() + b"\n" + b'{"key": "d"}\n')
    with pytest.raises(DataError, match="Line 4"):
        ledger.lines()


def test_finished_and_failed(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    assert ledger.finished().keys() == {"a", "c"}
    assert ledger.failed().keys() == {"b"}
    ledger.append({"key": "b", "fine": True})
    assert ledger.finished().keys() == {"a", "b", "c"}
    ledger.append({"key": "b", "error": "later"})  # what once ended well did
    assert ledger.finished()["b"] == {"key": "b", "fine": True}
    assert ledger.failed() == {}


def test_json_has_no_nan(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append({"key": "a", "values": [math.nan, math.inf, -math.inf, 0.0]})
    assert ledger.lines() == [{"key": "a", "values": [None, None, None, 0.0]}]


def test_locked_by_one_only(tmp_path: Path) -> None:
    with Ledger(tmp_path).locked(), pytest.raises(ConfigError, match="Another ablation"), Ledger(tmp_path).locked():
        pass
    with Ledger(tmp_path).locked():
        pass


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "below" / "table.md"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")  # half of it could be written
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["table.md"]
