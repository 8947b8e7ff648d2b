"""What people see of a trace, and what a terminal must not obey."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from traces import a_reward, completion, sampled

from rairl_lightning.components import Interval, Sparse, Step
from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.evaluation.inspection import HIGH, LOW, coloured, drop_of, show
from rairl_lightning.evaluation.scoring import Trace, TraceScore, score_traces
from rairl_lightning.evaluation.trained import TrainedReward


@pytest.fixture(scope="module")
def reward(base: Path) -> TrainedReward:
    return a_reward(base)


def read(reward: TrainedReward, question: SampledQuestion) -> TraceScore:
    trace = Trace(question.question, question.completions[0], question.answers[0], question.grades[0], {})
    ((score,),) = score_traces(reward, [trace])
    return score


def printed(reward: TrainedReward, score: TraceScore, *, colour: bool = False, table: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=colour, color_system="truecolor" if colour else None)
    show(score, reward.codec, console, table=table)
    return out.getvalue()


def with_pay(score: TraceScore, pay: dict[int, float]) -> TraceScore:
    """Read at the given tokens only."""
    count = len(score.ids.completion_ids)
    values, rewards = (tuple(pay.get(place, other) for place in range(count)) for other in (99.0, 0.0))
    return replace(score, pay=values, rewards=rewards, grid=tuple(place in pay for place in range(count)))


def test_the_largest_drop_by_hand(reward: TrainedReward) -> None:
    score = read(reward, sampled(3, completion(2)))
    assert drop_of(with_pay(score, {1: 1.0, 4: 3.0, 6: 0.5, 9: -1.0})) == 6
    assert drop_of(with_pay(score, {1: -1.0, 4: 3.0})) == 1, "the first falls from 0"
    assert drop_of(with_pay(score, {1: 1.0, 4: 2.0})) is None
    assert drop_of(replace(score, problems=("not_finite",))) is None
    assert drop_of(replace(score, pay=None)) is None


def test_without_colour_the_rewards_are_written_where_they_are_read(reward: TrainedReward) -> None:
    question = sampled(3, completion(1))
    for granularity in (Sparse(), Step(), Interval(4)):
        own = replace(reward, reader=replace(reward.reader, granularity=granularity))
        score = read(own, question)
        text = printed(own, score)
        assert text.count("⟨") == sum(score.grid) and "\x1b" not in text
        assert f"⟨{score.rewards[-1]:+.2f}⟩" in text and f"reward {score.reward:+.3f}" in text
        assert f"{sum(score.grid)} of {len(score.grid)} tokens read" in text
    steps = [line for line in text.splitlines() if line.startswith("│")]
    assert len(steps) == 3 and "1 + 2 = 3" in steps[0] and f"{score.steps()[0]['reward']:+.3f}" in steps[0]


def test_the_drop_is_marked_in_text_and_step(reward: TrainedReward) -> None:
    score = read(reward, sampled(3, completion(3)))
    target = next(place for place, (_, end) in enumerate(score.ids.char_offsets) if score.text[:end].endswith("go"))
    marked = with_pay(score, {0: 1.0, target: -2.0, target + 1: -1.0})
    text = printed(reward, marked)
    assert "▼go" in text
    (step,) = [line for line in text.splitlines() if line.startswith("│") and "▼" in line]
    assert "go left" in step


def test_colour_follows_the_sign(reward: TrainedReward) -> None:
    score = read(reward, sampled(3, completion(1)))
    text = coloured(with_pay(score, {0: 2.0, 1: -2.0, 2: 0.0}), None, values=False)
    backgrounds = [str(span.style.bgcolor.name) for span in text.spans[:3]]
    assert backgrounds == [f"rgb({','.join(map(str, rgb))})" for rgb in (HIGH, LOW, (255, 255, 255))]
    assert [bool(span.style.underline) for span in text.spans[:4]] == [True, True, True, False]
    assert text.plain == score.text
    assert "\x1b[" in printed(reward, score, colour=True), "negative control of the plain output"


def test_the_table_has_every_token(reward: TrainedReward) -> None:
    score = read(reward, sampled(3, completion(1)))
    rows = [line.split("│")[1:-1] for line in printed(reward, score, table=True).splitlines() if line.count("│") == 8]
    assert [row[3].strip() for row in rows].count("prompt") == len(score.ids.prompt_ids)
    own = [row for row in rows if row[3].strip() == "completion"]
    assert [int(row[1]) for row in own] == list(score.ids.completion_ids)
    assert [row[4].strip() == "●" for row in own] == list(score.grid)
    assert [float(row[5]) for row in own] == pytest.approx(list(score.rewards), abs=6e-4)


HOSTILE = (
    "<think>\n\x1b]0;owned\x07 \x1b[2J [bold red]go[/] [/nothing] \u202eleft\x9b31m\r\n</think>\n<answer>left</answer>"
)


@pytest.mark.parametrize("colour", [False, True])
def test_a_terminal_obeys_no_model(reward: TrainedReward, colour: bool) -> None:
    question = sampled(3, HOSTILE)
    question = replace(question, question=replace(question.question, prompt="\x1b[31m[blink]?", id="\x07[red]id"))
    out = printed(reward, read(reward, question), colour=colour, table=True)
    shown = out.replace("\x1b[0m", "")
    for sequence in ("\x1b]0;", "\x1b[2J", "\x07", "\u202e", "\x9b", "\r"):
        assert sequence not in shown
    assert "\\x1b" in out and "[blink]?" in out and "\\x07[red]id" in out


def test_a_trace_without_scores_is_shown_too(reward: TrainedReward) -> None:
    text = printed(reward, read(reward, sampled(3, "")), table=True)
    assert "reward none" in text and "empty: the completion has no text" in text
    assert "0 of 0 tokens read" in text
