"""Traces as pictures: every token on its colour, every letter on its token."""

from __future__ import annotations

import warnings
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from rairl_lightning.evaluation import heatmap
from rairl_lightning.evaluation.heatmap import COLUMNS, LINES, Panel, colours, draw_traces, lines_of

TEXT = "<think>\nthey pay $2 and $3, so 2 + 3 = 6\n</think>"


def cut(text: str, size: int = 3, grid: int = 1) -> dict[str, Any]:
    starts = range(0, len(text), size)
    rewards = [(-1.0) ** place for place, _ in enumerate(starts)]
    read = [int(place % grid == 0) for place, _ in enumerate(starts)]
    return {"offsets": [[at, min(at + size, len(text))] for at in starts], "reward": rewards, "grid": read}


def boxes(figure: Any) -> list[tuple[float, float, float, Any]]:
    """Column, line, width and colour of every coloured token."""
    patches = [one for one in figure.axes[0].patches if isinstance(one, Rectangle) and one.get_linewidth() == 0]
    return [(one.get_x(), one.get_y(), one.get_width(), one.get_facecolor()) for one in patches]


def texts(figure: Any) -> list[str]:
    return [one.get_text() for one in figure.axes[0].texts]


def test_every_token_has_the_colour_of_its_reward() -> None:
    tokens = cut(TEXT)
    figure = draw_traces("who?", [Panel("Expert", TEXT, tokens)])
    paid, cost = colours()(1.0), colours()(0.0)
    assert paid[2] > paid[1] and cost[0] > cost[2], "violet, orange"
    found = boxes(figure)
    first_line = [(column, width, colour) for column, line, width, colour in found if line == 3]
    assert first_line == [(0, 3, paid), (3, 3, cost), (6, 1, paid)], "the third token goes on in the next line"
    second = [(column, width, colour) for column, line, width, colour in found if line == 4][:2]
    assert second == [(0, 1, paid), (1, 3, cost)]
    drawn = sum(width for _, _, width, _ in found)
    assert drawn == len(TEXT.replace("\n", "")), "each character once"


def test_black_can_be_read_on_every_colour() -> None:
    """WCAG 2 asks for a contrast of 4.5."""

    def luminance(colour: Any) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
        return float(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])

    assert min((luminance(colours()(value / 64)) + 0.05) / 0.05 for value in range(65)) > 4.5
    assert (luminance(matplotlib.colormaps["PuOr"](1.0)) + 0.05) / 0.05 < 4.5, "the whole map would be too dark"


def test_letters_stand_on_their_tokens() -> None:
    """Agg rounds the advance of a letter to pixels: at another size text and colours drift apart."""

    def drift() -> float:
        line = "m" * (COLUMNS - 1)
        figure = draw_traces("", [Panel("", line, cut(line))])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (text,) = [one for one in figure.axes[0].texts if one.get_text() == line]
        width = text.get_window_extent(canvas.get_renderer()).width
        column = figure.axes[0].get_window_extent().width / COLUMNS
        return abs(width - column * len(line)) / column

    assert drift() < 0.5, "of a column, over a whole line"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmap, "SIZE", 8.0)
        assert drift() > 2, "negative control"


def test_what_was_changed_is_framed_and_what_is_read_underlined() -> None:
    at = TEXT.index("6")
    tokens = {**cut(TEXT, grid=4), "reward": [None, *cut(TEXT)["reward"][1:]]}
    axes: Any = draw_traces("q", [Panel("P", TEXT, tokens, (at, at + 1), (at + 5, at + 9))]).axes[0]
    frames = [one for one in axes.patches if one.get_linewidth() > 1]
    assert [(one.get_x(), one.get_y(), one.get_width(), one.get_linestyle()) for one in frames] == [
        (at - 8, 4, 1, "-"),
        (3, 5, 4, "--"),
    ]
    assert len(axes.lines) >= sum(tokens["grid"]) and not draw_traces("q", [Panel("P", TEXT, cut(TEXT))]).axes[0].lines
    assert min(x for x, y, *_ in boxes(axes.figure) if y == 3) == 3, "no reward, no colour"


def test_a_long_trace_is_shown_where_it_was_changed() -> None:
    text = "\n".join(f"step {number}" for number in range(60))
    at = text.index("step 41")
    shown = texts(draw_traces("q", [Panel("P", text, cut(text), (at, at + 7))]))
    assert "step 41" in shown and "step 0" not in shown and "step 59" not in shown
    assert sum(line.startswith("step") for line in shown) == LINES
    before, after = (line for line in shown if line.startswith("… "))
    assert int(before.split()[1]) + LINES + int(after.split()[1]) == 60
    assert "step 0" in texts(draw_traces("q", [Panel("P", text, cut(text))])), "from the start where nothing was"


def test_lines_hold_the_whole_text_and_no_line_is_too_long() -> None:
    text = "a word " * 40 + "x" * 300 + "\n\nend "
    found = lines_of(text, 50)
    assert all(end - start <= 50 for start, end in found)
    assert "".join(text[start:end] for start, end in found) == text.replace("\n", "")
    assert text[slice(*found[0])].endswith("word "), "at a space where there is one"


def test_anybodys_text_is_drawn_without_a_complaint() -> None:
    text = "$x_1$ 数学 \x1b[31m \u202e 🙂 \\frac ×÷"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_traces(text, [Panel(text, text, cut(text))])
        FigureCanvasAgg(figure).draw()
    assert "$x_1$" in texts(figure)[0] and "×÷" in texts(figure)[0] and "\x1b" not in texts(figure)[0]
    assert plt.get_fignums() == [], "nothing keeps it"
