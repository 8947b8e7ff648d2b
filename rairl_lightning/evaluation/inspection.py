"""One scored trace for people: its text in colour, its tokens side by side, its steps."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from rairl_lightning.evaluation.scoring import NOT_FINITE, PROBLEMS, TraceScore
from rairl_lightning.functional.localisation import largest_drop
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.visible import visible

LOW, HIGH = (230, 97, 1), (94, 60, 153)
"""Orange and violet: told apart by every kind of colour vision."""
DROP, POINT = "▼", "●"


def drop_of(score: TraceScore) -> int | None:
    """The completion token before which what the critic pays falls most; None if it never falls, or was not read."""
    if score.pay is None or NOT_FINITE in score.problems:
        return None
    grid = torch.tensor([score.grid])
    column = int(largest_drop(torch.tensor([score.pay]), grid, torch.ones_like(grid)))
    return column if column >= 0 else None


def show(score: TraceScore, codec: TraceCodec, console: Console, *, table: bool = False) -> None:
    """Print a trace.

    Args:
        score: of the trace.
        codec: that made its tokens.
        console: where to; without colour the rewards are written behind the tokens they were read at.
        table: also print every token, prompt and completion, side by side with mask, grid and reward.
    """
    drop = drop_of(score)
    console.print(_head(score))
    console.print(Text(visible(score.trace.question.prompt, keep="\n"), style="dim"))
    console.print(coloured(score, drop, values=console.color_system is None), soft_wrap=True)
    console.print(_steps(score, drop))
    if table:
        console.print(_tokens(score, codec, drop))
    console.print(Text(_legend(score, drop)))


def coloured(score: TraceScore, drop: int | None, *, values: bool) -> Text:
    """The completion, each token on the colour of its reward; points of the grid underlined, the largest drop marked.

    Args:
        score: of the trace.
        drop: from :func:`drop_of`.
        values: write the rewards, too.
    """
    out = Text()
    scale = _scale(score)
    for place, (start, end) in enumerate(score.ids.char_offsets):
        point = bool(score.grid) and score.grid[place]
        if place == drop:
            out.append(DROP, Style(bold=True))
        out.append(visible(score.text[start:end], keep="\n"), _style(score, place, scale, underline=point))
        if values and point and score.rewards:
            out.append(f"⟨{score.rewards[place]:+.2f}⟩")
    return out


def _head(score: TraceScore) -> Text:
    reward = "none" if score.reward is None else f"{score.reward:+.3f}"
    answer = "none" if score.trace.answer is None else visible(score.trace.answer)
    parts = [f"{visible(score.trace.question.id)}   reward {reward}   answer {answer}, {score.trace.grade.value}"]
    parts += [f"{name}: {PROBLEMS[name]}" for name in score.problems]
    return Text("\n".join(parts), style="bold")


def _steps(score: TraceScore, drop: int | None) -> Table:
    table = Table("step", "reward", "", "text")
    at = score.ids.char_offsets[drop] if drop is not None else None
    for number, step in enumerate(score.steps(), start=1):
        here = at is not None and at[0] < step["end"] and at[1] > step["start"]
        reward = "–" if step["reward"] is None else f"{step['reward']:+.3f}"
        table.add_row(str(number), reward, DROP if here else "", Text(visible(step["text"])))
    return table


def _tokens(score: TraceScore, codec: TraceCodec, drop: int | None) -> Table:
    table = Table("place", "id", "token", "mask", "grid", "reward", "")
    for place, token in enumerate(score.ids.prompt_ids):
        table.add_row(str(place), str(token), Text(visible(codec.decode([token])), "dim"), "prompt", "", "", "")
    scale, before = _scale(score), len(score.ids.prompt_ids)
    for place, (token, (start, end)) in enumerate(zip(score.ids.completion_ids, score.ids.char_offsets, strict=True)):
        text = Text(visible(score.text[start:end]) or "(end of turn)", _style(score, place, scale))
        grid = POINT if score.grid and score.grid[place] else ""
        reward = f"{score.rewards[place]:+.3f}" if score.rewards else "–"
        mark = DROP if place == drop else ""
        table.add_row(str(before + place), str(token), text, "completion", grid, reward, mark)
    return table


def _legend(score: TraceScore, drop: int | None) -> str:
    fall = f"{DROP} largest drop of the reward" if drop is not None else "the reward never falls"
    return f"{sum(score.grid)} of {len(score.ids.completion_ids)} tokens read; {fall}"


def _scale(score: TraceScore) -> float:
    """The largest finite reward in size, so that colours use their whole range."""
    return max((abs(value) for value in score.rewards or () if abs(value) < float("inf")), default=0.0) or 1.0


def _style(score: TraceScore, place: int, scale: float, *, underline: bool = False) -> Style:
    """White at 0, towards orange below and violet above."""
    value = score.rewards[place] / scale if score.rewards else 0.0
    if value != value:  # NaN has no colour
        return Style(reverse=True, underline=underline)
    share = min(1.0, abs(value))
    red, green, blue = (round(255 + share * (end - 255)) for end in (HIGH if value > 0 else LOW))
    ink = "white" if value > 0 and share > 0.6 else "black"
    return Style(color=ink, bgcolor=f"rgb({red},{green},{blue})", underline=underline)
