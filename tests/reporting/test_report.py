"""``rairl report`` from a folder to a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_run import HOSTILE, TEXT, cut, lines, trace, write_run
from torch.utils.tensorboard import SummaryWriter

from rairl_lightning.cli import main
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.run_folder import config_of
from rairl_lightning.reporting.charts import number
from rairl_lightning.reporting.events import phases_of, read_curves
from rairl_lightning.reporting.files import Notes
from rairl_lightning.reporting.pairs import choose_pairs
from rairl_lightning.reporting.sections import Sources, figures_of
from rairl_lightning.reporting.traces import choose

SECTIONS = {"results", "traces", "pairs", "curves", "reranking", "health", "config"}


class Page(HTMLParser):
    """Ids, tags, the texts of the traces and all visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.traces: list[str] = []
        self._in_trace = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "div" and dict(attrs).get("class") == "trace":
            self._in_trace = True
            self.traces.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_trace = self._in_trace and tag != "div"

    def handle_data(self, data: str) -> None:
        if self._in_trace:
            self.traces[-1] += data


def test_the_configuration_is_found_where_lightning_writes_it(tmp_path: Path) -> None:
    assert config_of(tmp_path) is None
    for version in (2, 10):  # as text, 10 comes before 2
        (tmp_path / "logs" / f"version_{version}").mkdir(parents=True)
        (tmp_path / "logs" / f"version_{version}" / "config.yaml").write_text(f"seed_everything: {version}")
        assert config_of(tmp_path) == tmp_path / "logs" / f"version_{version}" / "config.yaml"
    assert "seed_everything: 10" in figures_of(Sources(tmp_path), Notes()).config
    (tmp_path / "logs" / "config.yaml").write_text("seed_everything: 1")
    assert config_of(tmp_path) == tmp_path / "logs" / "config.yaml"
    (tmp_path / "config.yaml").write_text("seed_everything: 0")
    assert config_of(tmp_path) == tmp_path / "config.yaml"


def written(run: Path, *args: str) -> Page:
    assert main(["report", str(run), *args]) == 0
    return Page((run / "report.html").read_text())


def test_every_part_is_there(hand_made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = written(hand_made)
    assert set(page.ids) >= SECTIONS and len(page.ids) == len(set(page.ids))
    assert re.search(r"report\.html: 0\.\d\d MB", capsys.readouterr().out)
    text = (hand_made / "report.html").read_text()
    assert "75.0 (70.0–80.0)" in text and "recovered" in text and "leak: length" in text and "0.817" in text
    assert "12 rounds" in text and "NumberCorruption" in text


def test_the_text_of_a_trace_is_all_there_and_nothing_of_it_runs(hand_made: Path) -> None:
    page = written(hand_made)
    shown = TEXT.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert page.traces.count(shown) >= 8
    assert page.tags.count("script") == 1, "ours"
    assert not any(name.startswith("on") for name, _ in page.attributes)
    text = (hand_made / "report.html").read_text()
    assert "\x1b" not in text and "\u202e" not in text and HOSTILE[:8] in text.replace("&lt;", "<")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text), "nothing is fetched"


def test_rewards_positions_and_places_reach_the_page(hand_made: Path) -> None:
    page = written(hand_made)
    rewards = [json.loads(value or "") for name, value in page.attributes if name == "data-reward"]
    assert all(row[0] == -1 and row[-1] == 1 and len(row) == len(cut(TEXT)["offsets"]) for row in rewards)
    steps = next(json.loads(value or "") for name, value in page.attributes if name == "data-step")
    assert set(steps) == {0, 1, 2, 3} and [one for one in steps if one] == sorted(one for one in steps if one)
    classes = [value.split() for name, value in page.attributes if name == "class" and value]
    assert sum("t" in one for one in classes) == 2, "the changed token, and the legend's"
    assert sum("p" in one for one in classes) == 2, "likewise of the largest drop"


@pytest.mark.parametrize(
    "name", ["config.yaml", "summary.json", "health.json", "leaks.json", "reranking.jsonl", "localisation.jsonl"]
)
def test_what_is_missing_or_broken_is_said(hand_made: Path, name: str) -> None:
    (hand_made / name).write_text('["a list"]')
    broken = written(hand_made)
    (hand_made / name).unlink()
    page = written(hand_made)
    assert "left-out" in broken.ids
    assert "left-out" in page.ids or name == "localisation.jsonl"
    assert len(SECTIONS - set(page.ids)) <= 1


def test_other_schemas_are_left_out_part_by_part(hand_made: Path) -> None:
    for name in ("summary.json", "leaks.json", "health.json"):
        (hand_made / name).write_text('{"pass@1": 3, "measurements": [{}], "collapses": null}')
    lines(hand_made / "token_rewards.jsonl", [trace("good", 1.0), {"reward": 9.0, "tokens": {"offsets": [[1]]}}])
    text = (written(hand_made), (hand_made / "report.html").read_text())[1]
    assert "Left out the results of the test split" in text and "Left out a trace" in text and "good" in text


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "left-out" in page.ids and not SECTIONS & set(page.ids)


def test_against_another_run(hand_made: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", rounds=99)
    text = (written(hand_made, f"--against={other}"), (hand_made / "report.html").read_text())[1]
    assert "1 settings differ" in text and "model.rounds" in text and "reward/mean" in text
    assert "the other run" in text
    assert "&lt;b&gt;bold" in text and "<b>bold" not in text


def test_the_configuration_of_the_last_start_is_found_where_the_logger_saves_it(hand_made: Path) -> None:
    for version, rounds in ((1, 77), (0, 66)):
        folder = hand_made / "logs" / f"version_{version}"
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(f"model: {{rounds: {rounds}}}\n")
        os.utime(folder / "config.yaml", (version, version))
    (hand_made / "config.yaml").unlink()
    text = (written(hand_made), (hand_made / "report.html").read_text())[1]
    assert "rounds: 77" in text and "rounds: 66" not in text and "No config.yaml" not in text


def test_small_numbers_fit_on_an_axis() -> None:
    assert number(-0.0025) == "-0.0025" and number(0.0001) == "1e-4" and number(-1.5e-7) == "-1.5e-7"


def test_only_its_own_page_is_replaced(hand_made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(hand_made)
    written(hand_made)
    (hand_made / "report.html").write_text("mine")
    assert main(["report", str(hand_made)]) == ConfigError.exit_code
    assert (hand_made / "report.html").read_text() == "mine" and "no report wrote" in capsys.readouterr().err
    assert main(["report", str(hand_made / "none")]) == CheckpointError.exit_code
    assert main(["report", str(hand_made), "--traces=0"]) == ConfigError.exit_code


def test_traces_are_chosen_from_a_stream() -> None:
    rows = (trace(f"q{n}", (n * 7 % 100) / 10, correct=n % 3 == 0) for n in range(100))
    choice = choose(rows, iter([trace("q57", 1.5, None, "expert")]), each=2)
    by_kind = {kind: [one.policy["reward"] for one in choice.shown if one.kind == kind] for kind in
               ("best", "worst", "flattered", "slighted")}  # fmt: skip
    assert choice.seen == 100 and by_kind["best"] == [9.9, 9.8] and by_kind["worst"] == [0.0, 0.1]
    wrong = sorted(((n * 7 % 100) / 10 for n in range(100) if n % 3), reverse=True)
    right = sorted((n * 7 % 100) / 10 for n in range(100) if not n % 3)
    assert by_kind["flattered"] == [one for one in wrong if one not in (9.9, 9.8)][:2]
    assert by_kind["slighted"] == [one for one in right if one not in (0.0, 0.1)][:2]
    assert [one.expert is not None for one in choice.shown] == [one.policy["id"] == "q57" for one in choice.shown]


@pytest.mark.slow
def test_the_page_stays_small(tmp_path: Path) -> None:
    long = "step by step " * 4000
    lines(tmp_path / "token_rewards.jsonl", [trace(f"q{n}", float(n), text=long) for n in range(30)])
    written(tmp_path, "--traces=20")
    page = tmp_path / "report.html"
    assert page.stat().st_size < 5e6 and "would make the page too large" in page.read_text()


def test_pairs_are_found_and_missed_in_turn() -> None:
    rows = [{"id": n, "kind": f"k{n % 2}", "hit": {"reward": {"step": n < 8}}} for n in range(10)]
    pairs, seen = choose_pairs(rows, 4)
    assert [row["id"] for row in pairs] == [0, 8, 1, 9] and seen == 10


def test_a_test_takes_no_curve_back(hand_made: Path) -> None:
    """Its events begin at step 0, as those of a run that starts anew."""
    before = read_curves(hand_made, Notes())
    with SummaryWriter(str(hand_made / "logs" / "test")) as writer:
        writer.add_scalar("test/pass@1", 0.5, 0)
        writer.add_scalar("epoch", 0, 0)
    with SummaryWriter(str(hand_made / "logs")) as writer:
        writer.add_scalar("hp/pass@1", 0.5, 40)
    after = read_curves(hand_made, Notes())
    assert after == {**before, "test/pass@1": ((0, 0.5),), "epoch": ((0, 0.0),)}, "and hp/… is said by others"


def test_curves_and_phases(hand_made: Path) -> None:
    notes = Notes()
    curves = read_curves(hand_made, notes)
    assert [(one.name, one.start, one.end) for one in phases_of(curves)] == [
        ("sft", 0, 9), ("warm-up", 10, 19), ("adversarial", 20, 29)]  # fmt: skip
    assert curves["reward/mean"][0] == (20, 2.0) and not notes.lines and Sources(hand_made).against is None


def _channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def contrast(first: str, second: str) -> float:
    """WCAG 2's, of two colours as ``#rrggbb``."""
    luminances = []
    for colour in (first, second):
        red, green, blue = (_channel(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
        luminances.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def test_texts_can_be_read_on_every_colour(root: Path) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") < 4.5, "control"
    style = (root / "rairl_lightning/reporting/templates/page.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", part)) for part in style.split("@media")[:2])
    for colours in (light, dark):
        for name in ("l4", "l3", "l2", "l1", "z", "h1", "h2", "h3", "h4", "ground", "card"):
            assert contrast(colours["ink"], colours[name]) >= 4.5, name
        for name in ("soft", "link", "warn", *(f"s{line}" for line in range(7))):
            assert contrast(colours[name], colours["card"]) >= 4.5, name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_script_runs_without_an_error(hand_made: Path, tmp_path: Path) -> None:
    written(hand_made)
    args = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    page = f"file://{hand_made / 'report.html'}"
    done = subprocess.run(
        ["chromium", *args, f"--user-data-dir={tmp_path}/profile", page], capture_output=True, text=True, timeout=110
    )
    assert "CONSOLE" not in done.stderr and 'id="tip"' in done.stdout
