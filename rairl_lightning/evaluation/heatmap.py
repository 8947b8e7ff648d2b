"""Traces as pictures: their text, with every token on the colour of its reward."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from rairl_lightning.evaluation.token_rows import colour_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

Span = tuple[int, int]
COLUMNS = 92
"""Characters of a line."""
LINES = 18
"""Lines of a trace that are shown at most."""
QUESTION_LINES = 4
DPI = 130
ADVANCE = 9 / DPI
"""Inches from one character of the font to the next: whole pixels, to which Agg rounds."""
FONT, SIZE = "DejaVu Sans Mono", 72 * ADVANCE / 0.6020508  # comes with matplotlib; its advance is 0.602 of its size
LEADING = 1.5 * SIZE / 72
MARGIN, FOOT = 0.2, 0.5
PALEST = 0.2
"""So much of either end of the colours is left out: black text would be hard to read on it."""


@dataclass(frozen=True)
class Panel:
    """One trace of a picture.

    Attributes:
        title: who wrote it, and what is known of it.
        text: completion.
        tokens: ``offsets``, ``reward`` and ``grid`` as :mod:`~rairl_lightning.evaluation.run_folder` says.
        changed: characters that a perturbation changed, framed.
        fallen: characters at which the reward falls most, in a dashed frame.
    """

    title: str
    text: str
    tokens: dict[str, Any]
    changed: Span | None = None
    fallen: Span | None = None


def draw_traces(question: str, panels: Sequence[Panel]) -> Figure:
    """The traces one below the other, on one scale of colours; violet is paid and orange costs, as in the report.

    Where the reward is read at some tokens only, these are underlined. Of a long trace :data:`LINES` lines are shown,
    those around what was changed.

    Args:
        question: what they answer.
        panels: at least one, with rewards.
    """
    from matplotlib.figure import Figure

    rows = list(_rows(question, panels))
    width, height = COLUMNS * ADVANCE, len(rows) * LEADING
    size = width + 2 * MARGIN, height + 2 * MARGIN + FOOT
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((MARGIN / size[0], (MARGIN + FOOT) / size[1], width / size[0], height / size[1]))
    axes.set(xlim=(0, COLUMNS), ylim=(len(rows), 0))
    axes.set_axis_off()
    scale = colour_scale([value for one in panels for value in one.tokens["reward"] if value is not None])
    for line, row in enumerate(rows):
        row.draw(axes, line, scale)
    _colour_bar(figure, (MARGIN / size[0], 0.32 / size[1], 0.4 * width / size[0], 0.12 / size[1]), scale)
    return figure


@dataclass(frozen=True)
class Words:
    """A line that belongs to no trace."""

    text: str
    weight: str = "normal"
    colour: str = "black"

    def draw(self, axes: Axes, line: int, scale: float) -> None:
        """Write it."""
        _write(axes, line, self.text, weight=self.weight, color=self.colour)


@dataclass(frozen=True)
class Line:
    """A line of a trace: some characters of its text."""

    panel: Panel
    start: int
    end: int

    def draw(self, axes: Axes, line: int, scale: float) -> None:
        """Colour the tokens, write the text on them, and frame what is to be seen."""
        rewards, grid = self.panel.tokens["reward"], self.panel.tokens["grid"]
        sparse = not all(grid)
        for place, (start, end) in self._tokens():
            if rewards[place] is not None:
                shade = colours()(0.5 + 0.5 * max(-1.0, min(1.0, rewards[place] / scale)))
                axes.add_patch(_box(start - self.start, line, end - start, facecolor=shade, linewidth=0))
            if sparse and grid[place]:
                axes.plot([start - self.start, end - self.start], [line + 0.93] * 2, color="black", linewidth=0.9)
        _write(axes, line, self.panel.text[self.start : self.end])
        for span, style in ((self.panel.changed, "-"), (self.panel.fallen, "--")):
            if (seen := self._within(span)) is not None:
                frame = {"facecolor": "none", "edgecolor": "black", "linewidth": 1.2, "linestyle": style}
                axes.add_patch(_box(seen[0] - self.start, line, seen[1] - seen[0], zorder=3, **frame))

    def _tokens(self) -> Iterator[tuple[int, Span]]:
        offsets = self.panel.tokens["offsets"]
        first = max(0, bisect_right([start for start, _ in offsets], self.start) - 1)
        for place, span in enumerate(offsets[first:], first):
            if span[0] >= self.end:
                return
            if (seen := self._within(span)) is not None:
                yield place, seen

    def _within(self, span: Sequence[int] | None) -> Span | None:
        """The part of a span on this line; an empty span, of a place where something is missing, is one character."""
        if span is None:
            return None
        start, end = max(span[0], self.start), min(max(span[1], span[0] + 1), self.end)
        return (start, end) if start < end else None


def lines_of(text: str, columns: int = COLUMNS) -> list[Span]:
    """Where lines of a text start and end, broken at line breaks, and at spaces or anywhere where one is too long.

    >>> lines_of("so 1 + 2 = 3" + chr(10) + "left", columns=8)
    [(0, 7), (7, 12), (13, 17)]
    """
    out, start = [], 0
    for line in text.split("\n"):
        end = start + len(line)
        while end - start > columns:
            space = text.rfind(" ", start + 1, start + columns)
            cut = space + 1 if space > 0 else start + columns
            out.append((start, cut))
            start = cut
        out.append((start, end))
        start = end + 1
    return out


def window(count: int, focus: int, most: int) -> range:
    """Which of so many lines to show: the first ones, or those around the one that must be seen.

    >>> window(30, 4, 10), window(30, 20, 10), window(3, 0, 10)
    (range(0, 10), range(15, 25), range(0, 3))
    """
    first = 0 if focus < most - 1 else max(0, min(focus - most // 2, count - most))
    return range(first, min(count, first + most))


@cache
def colours() -> LinearSegmentedColormap:
    """Orange to violet, told apart with any colour vision."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    shades = matplotlib.colormaps["PuOr"]
    steps = [PALEST + (1 - 2 * PALEST) * place / 32 for place in range(33)]
    return LinearSegmentedColormap.from_list("paid", [shades(step) for step in steps])


def _rows(question: str, panels: Sequence[Panel]) -> Iterator[Words | Line]:
    asked = lines_of(question)
    yield from (Words(question[start:end]) for start, end in asked[:QUESTION_LINES])
    if len(asked) > QUESTION_LINES:
        yield Words(f"… {len(asked) - QUESTION_LINES} more lines", colour="dimgrey")
    for panel in panels:
        yield Words("")
        yield Words(panel.title, weight="bold")
        lines = lines_of(panel.text)
        focus = 0 if panel.changed is None else bisect_right([start for start, _ in lines], panel.changed[0]) - 1
        shown = window(len(lines), focus, LINES)
        if shown.start:
            yield Words(f"… {shown.start} lines before", colour="dimgrey")
        yield from (Line(panel, *lines[place]) for place in shown)
        if shown.stop < len(lines):
            yield Words(f"… {len(lines) - shown.stop} more lines", colour="dimgrey")


def _write(axes: Axes, line: int, text: str, **style: Any) -> None:
    """Nobody's dollars are mathematics."""
    axes.text(0, line + 0.72, _drawable(text), fontfamily=FONT, fontsize=SIZE, parse_math=False, **style)


def _box(column: float, line: float, width: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column, line), width, 1, **style)


def _colour_bar(figure: Figure, place: tuple[float, float, float, float], scale: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(
        ScalarMappable(Normalize(-scale, scale), colours()), cax=figure.add_axes(place), orientation="horizontal"
    )
    bar.set_ticks([-scale, 0, scale], labels=[f"{-scale:.2g}", "0", f"{scale:+.2g}"], fontsize=SIZE - 1)
    bar.outline.set_linewidth(0)
    bar.ax.set_title("reward of a token", fontsize=SIZE - 1, loc="left", pad=3)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())


def _drawable(text: str) -> str:
    """The text with a box for every character that the font lacks or nobody sees; as long as before."""
    return "".join(c if c.isprintable() and ord(c) in _glyphs() else "□" for c in text)
